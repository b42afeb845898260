"""A conversation's prompt, a choice of tools and a form into the engine's request: what every chat dialect does alike.

    prompt ids ─┐
    ToolChoice ─┼──request_of──▶ engine's Request: at most one grammar, an answer that fits the context
    forms ──────┘

Each dialect reads its own words for a choice of tools; what follows from a choice stands here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ownlm.engine import Request
from ownlm.engine.grammar import Grammar
from ownlm.opened import ModelFiles
from ownlm.server.errors import bad
from ownlm.server.fields import SamplingBody, most_tokens
from ownlm.server.hosted import Served
from ownlm.server.messages import knows_tools
from ownlm.server.principal import Principal
from ownlm.server.service import Service
from ownlm.server.tool_calls import CLOSE, OPEN, forced_grammar, free_grammar
from ownlm.tokenizer.special import THINKING


@dataclass(frozen=True, kw_only=True)
class ToolChoice:
    """tools: the functions that the model is told of, as messages.check_tools has them. forced: it must call one, and
    if `named` that one. parallel: it may call more than one.
    """

    tools: Sequence[Mapping[str, Any]] = ()
    forced: bool = False
    named: str | None = None
    parallel: bool = True

    @property
    def grammar(self) -> Grammar | None:
        return forced_grammar(self.tools, self.named) if self.forced else None

    def held(self, model: ModelFiles) -> Grammar | None:
        """Free to call or not: where a function is strict, a call is held to its schema from its tag on.

        None where the model writes its calls otherwise, or with tokens that are no text.
        """
        if self.forced or not any(tool["function"].get("strict") for tool in self.tools):
            return None
        jinja = None if model.template is None else model.template.jinja
        if knows_tools(model) and OPEN not in (jinja or ""):
            return None
        special = model.tokenizer.special
        drawn = {special[tag] for tag in (OPEN, CLOSE, *THINKING) if tag in special}
        return free_grammar(self.tools) if drawn <= {*model.tokenizer.never_generated} else None

    @property
    def stop(self) -> tuple[str, ...]:
        """Where one call is all that may be, the answer ends with it; one that is forced is one already."""
        return (CLOSE,) if self.tools and not self.forced and not self.parallel else ()

    def knows(self, name: Any) -> bool:
        return any(name == tool["function"]["name"] for tool in self.tools)


def request_of(
    service: Service,
    served: Served,
    principal: Principal,
    body: SamplingBody,
    prompt: list[int],
    *,
    choice: ToolChoice,
    forms: Mapping[str, Grammar | None],
    longest: int | None,
    param: str,
    **more: Any,
) -> Request:
    """`forms`: by the field that asks for it, what the answer must look like. `longest`: tokens, as field `param` says.

    `more`: settings of engine.Sampling.
    """
    given = {name: form for name, form in {**forms, "tool_choice": choice.grammar}.items() if form is not None}
    if len(given) > 1:
        raise bad(f"{' and '.join(given)} each say what the answer must look like; give one of them", next(iter(given)))
    if not given and (held := choice.held(served.hosted.files)) is not None:
        given["tools"] = held
    if choice.stop:
        asked = [body.stop] if isinstance(body.stop, str) else body.stop or []
        more["stop"] = [*asked, *choice.stop]
    return service.request(
        served,
        principal,
        body,
        prompt,
        grammar=next(iter(given.values()), None),
        max_tokens=most_tokens(longest, served.hosted.context - len(prompt), param),
        **more,
    )
