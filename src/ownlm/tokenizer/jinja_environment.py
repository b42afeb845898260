"""Jinja's sandbox for chat templates, every operation of which is paid for.

In:  a template's text, to compile; jinja_template.py renders it.
Out: code in which each thing that can grow or go on for ever asks jinja_limits.py first.

What transformers gives a template is here too: trimmed blocks, `break` and `continue`, `tojson` without HTML's escapes,
`raise_exception`, `strftime_now`, `dict`, `namespace`, and the tag `generation`.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import jinja2.ext
from jinja2 import Undefined, nodes, pass_context
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from ownlm.tokenizer.jinja_limits import Budget, Steps

# Marks of `generation`, taken out again after rendering: noncharacters, which no text may hold.
OPEN, CLOSE = "\ufdd0", "\ufdd1"
# Nothing a chat needs, and each can make much of little or never end.
_LEFT_OUT = ("urlize", "wordwrap", "xmlattr", "pprint")
_UNSAFE = frozenset({"translate", "maketrans", "encode", "format_map", "to_bytes", "from_bytes"})


class _Generator(CodeGenerator):
    """Jinja's compiler, with a check wherever a value grows without a function being called."""

    def visit_For(self, node: nodes.For, frame: Any) -> None:
        metered = nodes.Call(nodes.EnvironmentAttribute("steps"), [node.iter], [], None, None)
        node.iter = metered.set_lineno(node.lineno)
        super().visit_For(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Any) -> None:
        self.write("environment.concat_values((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Any) -> None:
        self._checked(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Any) -> None:
        self._checked(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Any) -> None:
        if node.ctx == "load":
            self._checked(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def visit_ScopedEvalContextModifier(self, node: nodes.ScopedEvalContextModifier, frame: Any) -> None:
        self.fail("autoescape has no place in a chat template", node.lineno)

    def _checked(self, visit: Callable[[Any, Any], None], node: nodes.Node, frame: Any) -> None:
        self.write("environment.budget.checked(")
        visit(node, frame)
        self.write(")")


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """One for each template: its budget is that of the rendering under way."""

    code_generator_class = _Generator
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        self.budget = Budget()
        # No evaluation while compiling: nothing is paid for there.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=[_GenerationTag, jinja2.ext.loopcontrols],
            finalize=_written,
            cache_size=0,
        )
        self.globals.pop("lipsum")
        self.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
            "dict": _Dict(),
            "namespace": _Namespace,
        }
        for name in _LEFT_OUT:
            del self.filters[name]
        budget = self.budget
        checks: dict[str, Callable[..., None]] = {
            "batch": lambda value, width, *_: budget.check_width(width),
            "slice": lambda value, width, *_: budget.check_width(width),
            "center": lambda value, width=80: budget.check_width(width),
            "indent": budget.check_indent,
            "replace": lambda context, *arguments: budget.check_replace(*arguments),
            "join": lambda context, value, separator="", *_: budget.check_join(separator, value),
            "format": budget.check_format,
        }
        self.filters["tojson"] = self._to_json
        self.filters = {name: _guarded(function, budget, checks.get(name)) for name, function in self.filters.items()}

    def call(__self, __context: Any, __function: Any, *arguments: Any, **keywords: Any) -> Any:
        # Named so, as in Jinja, that a template's own keyword `self` is free.
        budget = __self.budget
        budget.look()
        budget.check_method(__function, (*arguments, *keywords.values()))
        result = super().call(__context, __function, *arguments, **keywords)
        return budget.checked(result)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self.budget.check_operation(operator, left, right)
        return self.budget.checked(super().call_binop(context, operator, left, right))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in _UNSAFE and bool(super().is_safe_attribute(obj, attr, value))

    def unsafe_undefined(self, value: Any, name: str) -> Undefined:
        # Jinja would go on with nothing: who reaches for it means harm, or is mistaken.
        raise SecurityError(f"{name!r} of a {type(value).__name__}")

    def steps(self, values: Iterable[Any]) -> Steps:
        iter(values)  # a mistake in a template is told here, where Jinja would
        return Steps(values, self.budget)

    def concat(self, pieces: Iterable[str]) -> str:
        """What a macro or a `set` block has written."""
        written = list(pieces)
        self.budget.check_size(sum(map(len, written)))
        return "".join(written)

    def concat_values(self, values: Iterable[Any]) -> str:
        """`a ~ b`."""
        self.budget.look()
        return self.concat(str(self.budget.checked(value)) for value in values)

    def _to_json(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        self.budget.check_json(value, indent)
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` ... `{% endgeneration %}`: transformers' mark of the assistant's words."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own declaration)

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        return f"{OPEN}{caller()}{CLOSE}"


class _Dict:
    """`dict(...)` and `dict.fromkeys`, and nothing else of Python's class."""

    def __call__(self, *arguments: Any, **keywords: Any) -> dict[Any, Any]:
        return dict(*arguments, **keywords)

    def fromkeys(self, *arguments: Any) -> dict[Any, Any]:
        return dict.fromkeys(*arguments)


class _Namespace(Namespace):
    """Jinja's, without underscored names, and without a text that writes out all that it holds."""

    def __init__(*arguments: Any, **keywords: Any) -> None:
        self, *given = arguments
        values = dict(*given, **keywords)
        for name in values:
            _check_name(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<namespace>"


@pass_context
def _written(context: Any, value: Any) -> Any:
    """Each value that a template writes. Taking the context keeps Jinja from trying it while it compiles."""
    budget = context.environment.budget
    budget.look()
    return budget.checked(value)


def _guarded(function: Callable[..., Any], budget: Budget, check: Callable[..., None] | None) -> Callable[..., Any]:
    """A filter that is paid for; Jinja's mark of what it wants to be given stays on it."""

    def guard(*arguments: Any, **keywords: Any) -> Any:
        budget.look()
        for argument in arguments:
            budget.checked(argument) if isinstance(argument, Mapping | list | tuple) else None
        if check is not None:
            check(*arguments, *keywords.values())
        return budget.checked(function(*arguments, **keywords))

    if (mark := getattr(function, "jinja_pass_arg", None)) is not None:
        guard.jinja_pass_arg = mark  # type: ignore[attr-defined]
    return guard


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace may not hold {name!r}")


def is_generation(call: nodes.CallBlock) -> bool:
    target = call.call.node
    return isinstance(target, nodes.ExtensionAttribute) and target.identifier == _GenerationTag.identifier
