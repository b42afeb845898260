"""A Python file as two texts: what it says in words, and what it does.

In:  the source of a module.
Out: its definitions (name, parameters, docstring, line), from which the prose is set, and its code with
     comments but without docstrings, so that nothing stands in both. Both remember their lines in the file.

    def loads(s, *, cls=None):        prose:  json.loads(s, cls):
        \"\"\"Read a JSON text.\"\"\"                  Read a JSON text.
        return parse(s)               code:   def loads(s, *, cls=None):
                                                  return parse(s)

A name stands right before what it does: the nearest that a small model can learn it from.
"""

import ast
import inspect
import io
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ownlm.corpus.clean import clean_text

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

# Functions that hang a docstring on something written in C: numpy's add_newdoc, torch's add_docstr.
_DOCUMENTERS = frozenset({"add_newdoc", "add_docstr"})
_SHORTEST_DOCSTRING = 12
_LONGEST_LINE = 1000
# Of a sample from the middle: code is letters to three quarters, tables to a third.
_FEWEST_LETTERS = 0.5
_SAMPLE = 8_000
_GENERATED = re.compile(
    r"auto(matically)?[- ]?generated|file (is|was) generated|generated from '|do not edit|@generated", re.I
)


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One documented thing. `line` is where it is defined, `docstring_line` where its docstring's text starts."""

    name: str
    parameters: str | None
    docstring: str
    line: int
    docstring_line: int

    @property
    def heading(self) -> str:
        """`json.loads(s, cls):`, or `json:` for what is not called."""
        return f"{self.name}({self.parameters}):" if self.parameters is not None else f"{self.name}:"


@dataclass(frozen=True, kw_only=True)
class ModuleText:
    """What one file holds: see the drawing above."""

    definitions: tuple[Definition, ...]
    code: str
    code_lines: tuple[tuple[int, int], ...]


def decode_source(data: bytes) -> str | None:
    """The source as text, by the encoding that it declares; None when it cannot be read."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return clean_text(data.decode(encoding))
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return None


def unwanted_source(source: str) -> str | None:
    """Why this is no code that a person wrote to be read, or None when it is."""
    # In comments and docstrings of its first lines a generator says that it was one.
    if _GENERATED.search("\n".join(source.split("\n", 12)[:12])):
        return "generated"
    if max(map(len, source.split("\n")), default=0) > _LONGEST_LINE:
        return "minified or huge literals"
    middle = max(0, len(source) // 2 - _SAMPLE // 2)
    dense = "".join(source[middle : middle + _SAMPLE].split())
    if sum(map(str.isalpha, dense)) < _FEWEST_LETTERS * len(dense):
        return "tables of numbers"
    return None if source.strip() else "empty"


def docstring_share(source: str) -> float:
    """Roughly the share of the source inside triple quotes: quick, to spare parsing what says little."""
    quoted = source.split('"""')[1::2]
    return sum(map(len, quoted)) / max(1, len(source))


def read_module(source: str, module: str) -> ModuleText | None:
    """Parse one module; None when this Python cannot."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    nodes: list[tuple[_Documented, str]] = [(tree, module), *_documented(tree.body, module)]
    definitions = [_definition(node, name) for node, name in nodes]
    definitions += _attached_docstrings(tree, module)
    code, code_lines = _without_docstrings(source, [node for node, _ in nodes])
    return ModuleText(
        definitions=tuple(
            definition
            for definition in definitions
            if definition is not None and len(definition.docstring) >= _SHORTEST_DOCSTRING
        ),
        code=code,
        code_lines=code_lines,
    )


def set_prose(definitions: Iterable[Definition]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Definitions as one text, and the lines they come from."""
    pieces: list[str] = []
    lines: list[tuple[int, int]] = []
    offset = 0
    for definition in definitions:
        lines.append((offset, definition.line))
        lines.append((offset + len(definition.heading) + 1, definition.docstring_line))
        pieces.append(f"{definition.heading}\n{definition.docstring}\n\n")
        offset += len(pieces[-1])
    return "".join(pieces), tuple(lines)


def _documented(body: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[_Documented, str]]:
    """Classes and functions in the order of the file; not what is defined inside functions."""
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            yield statement, f"{prefix}.{statement.name}"
            yield from _documented(statement.body, f"{prefix}.{statement.name}")
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield statement, f"{prefix}.{statement.name}"
        else:
            for block in ("body", "orelse", "finalbody"):
                yield from _documented(getattr(statement, block, ()), prefix)
            for handler in getattr(statement, "handlers", ()):
                yield from _documented(handler.body, prefix)


def _docstring_node(node: _Documented) -> ast.Constant | None:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return first.value if isinstance(first.value.value, str) else None
    return None


def _definition(node: _Documented, name: str) -> Definition | None:
    constant = _docstring_node(node)
    if constant is None:
        return None
    docstring, line = _cleaned(str(constant.value), constant.lineno)
    return Definition(
        name=name,
        parameters=_parameters(node),
        docstring=docstring,
        line=1 if isinstance(node, ast.Module) else node.lineno,
        docstring_line=line,
    )


def _cleaned(docstring: str, line: int) -> tuple[str, int]:
    """The docstring without its indentation, and the line where its first words stand."""
    blank_lines = 0
    for row in docstring.split("\n"):
        if row.strip():
            break
        blank_lines += 1
    return clean_text(inspect.cleandoc(docstring)).strip(), line + blank_lines


def _parameters(node: _Documented) -> str | None:
    """The names only: annotations and defaults stand in the code."""
    if isinstance(node, ast.Module):
        return None
    if isinstance(node, ast.ClassDef):
        for child in node.body:
            if isinstance(child, ast.FunctionDef) and child.name == "__init__":
                return _parameters(child)
        return None
    spec = node.args
    names = [argument.arg for argument in (*spec.posonlyargs, *spec.args)]
    if names and names[0] in ("self", "cls", "mcs", "mcls"):
        names = names[1:]
    names += [f"*{spec.vararg.arg}"] if spec.vararg else []
    names += [argument.arg for argument in spec.kwonlyargs]
    names += [f"**{spec.kwarg.arg}"] if spec.kwarg else []
    return ", ".join(names)


def _attached_docstrings(tree: ast.Module, module: str) -> Iterator[Definition]:
    """Docstrings that a module hangs on compiled functions: add_newdoc("numpy", "array", \"\"\"...\"\"\")."""
    package = module.split(".")[0]
    for statement in tree.body:
        call = statement.value if isinstance(statement, ast.Expr) else None
        if not isinstance(call, ast.Call) or ast.unparse(call.func).rsplit(".", 1)[-1] not in _DOCUMENTERS:
            continue
        text = next((arg for arg in reversed(call.args) if _long_string(arg)), None)
        if not isinstance(text, ast.Constant):
            continue
        target = call.args[0]
        if isinstance(target, ast.Constant):
            words = [str(arg.value) for arg in call.args[1:-1] if isinstance(arg, ast.Constant)]
            name = ".".join([package, *words])
        else:
            name = ast.unparse(target)
        docstring, line = _cleaned(str(text.value), text.lineno)
        yield Definition(name=name, parameters=None, docstring=docstring, line=call.lineno, docstring_line=line)


def _long_string(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" in node.value


def _without_docstrings(source: str, nodes: Iterable[_Documented]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The source less the lines of docstrings, with `...` where nothing else would be left of a body."""
    rows = source.split("\n")
    for node in nodes:
        constant = _docstring_node(node)
        if constant is None or constant.end_lineno is None:
            continue
        first, last = constant.lineno - 1, constant.end_lineno - 1
        before = rows[first].encode()[: constant.col_offset].decode(errors="ignore")
        after = rows[last].encode()[constant.end_col_offset or 0 :].decode(errors="ignore")
        if before.strip() or after.strip(" \t;)"):
            continue
        for row in range(first, last + 1):
            rows[row] = _GONE
        if len(node.body) == 1 and not isinstance(node, ast.Module):
            rows[first] = f"{before}..."
        elif last + 1 < len(rows) and not rows[last + 1].strip():
            rows[last + 1] = _GONE
    return _join_kept(rows)


_GONE = "\0gone"  # cleaned source holds no NUL


def _join_kept(rows: list[str]) -> tuple[str, tuple[tuple[int, int], ...]]:
    pieces: list[str] = []
    lines: list[tuple[int, int]] = []
    offset, follows = 0, False
    for number, row in enumerate(rows, start=1):
        if row == _GONE:
            follows = False
            continue
        if not follows:
            lines.append((offset, number))
        pieces.append(row + "\n")
        offset += len(row) + 1
        follows = True
    text = "".join(pieces).rstrip("\n") + "\n"
    return text, tuple(entry for entry in lines if entry[0] < len(text))
