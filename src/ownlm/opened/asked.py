"""Keywords of a question into the engine's request: sampling settings, at most one grammar, an adapter, a priority.

generate(prompt, temperature=0, stop="\\n", choices=["yes", "no"])   ─▶   Request(prompt, Sampling, Grammar)
"""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from ownlm.engine import Request, Sampling
from ownlm.engine.grammar import Grammar
from ownlm.errors import OwnlmError

# Each a way to say what an answer must look like.
GRAMMARS = ("grammar", "json_schema", "regex", "choices")


def make_request(prompt: list[int], asked: Mapping[str, Any]) -> Request:
    """`asked`: settings of engine.Sampling; one of GRAMMARS; `adapter`; `priority`."""
    asked = dict(asked)
    adapter, priority = asked.pop("adapter", None), asked.pop("priority", 0)
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise OwnlmError(f"priority must be a whole number, the lower the sooner, got {priority!r}")
    grammar = make_grammar({name: asked.pop(name, None) for name in GRAMMARS})
    return Request(prompt=prompt, sampling=make_sampling(asked), grammar=grammar, adapter=adapter, priority=priority)


def make_grammar(asked: Mapping[str, Any]) -> Grammar | None:
    """From at most one of GRAMMARS: a Grammar, a JSON schema (as Python has it or as text), a pattern, some texts."""
    given = {name: value for name, value in asked.items() if value is not None}
    if not given:
        return None
    if len(given) > 1:
        raise OwnlmError(f"{' and '.join(given)} each say what the answer must look like; give one of them")
    ((name, value),) = given.items()
    match name:
        case "json_schema":
            return Grammar(kind="json_schema", text=value) if isinstance(value, str) else Grammar.for_schema(value)
        case "regex":
            return Grammar(kind="regex", text=value)
        case "choices":
            listed = isinstance(value, Sequence) and not isinstance(value, str)
            return Grammar(kind="choice", text=tuple(value) if listed else value)
    if not isinstance(value, Grammar):
        raise OwnlmError(f"grammar must be an engine.grammar.Grammar, got {value!r}; or give json_schema or regex")
    return value


def make_sampling(settings: Mapping[str, Any]) -> Sampling:
    """Sampling from keywords, as JSON has them too: lists, ids of logit_bias as texts; `stop` may be one text."""
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    stop = settings.get("stop")
    if stop is None or isinstance(stop, str):
        settings["stop"] = () if stop is None else (stop,)
    if isinstance(bias := settings.get("logit_bias"), Mapping):
        settings["logit_bias"] = {
            int(id) if isinstance(id, str) and id.isdecimal() and len(id) < 20 else id: value
            for id, value in bias.items()
        }
    unknown = settings.keys() - set(Sampling.__dataclass_fields__)
    if unknown:
        known = ", ".join((*Sampling.__dataclass_fields__, *GRAMMARS))
        raise OwnlmError(f"unknown sampling setting {reprlib.repr(sorted(unknown)[0])}; there are {known}")
    return Sampling(**settings)
