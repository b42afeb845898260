"""The sampling that a model's makers found to suit it: generation_config.json's, both ways.

In:  generation_config.json's fields. Out: keywords of engine.Sampling; and back.

What is of a wrong type or out of range is as if it were not there: it is a suggestion, and the model opens without.
"""

from collections.abc import Mapping
from typing import Any

from ownlm.engine import Sampling
from ownlm.errors import OwnlmError

Suggested = dict[str, float | int]

_DRAWN = ("temperature", "top_k", "top_p", "min_p")
_PENALTY = "repetition_penalty"


def suggested_sampling(generation: Mapping[str, Any]) -> Suggested:
    """Where a file says that nothing is drawn, temperature is 0, and what else it says of drawing means nothing."""
    if generation.get("do_sample") is False:
        return {"temperature": 0.0, **_read(generation, (_PENALTY,))}
    return _read(generation, (*_DRAWN, _PENALTY))


def generation_fields(sampling: Mapping[str, float | int]) -> dict[str, Any]:
    """transformers knows no temperature of 0, and draws only where it is told to."""
    if sampling.get("temperature") == 0:
        return {"do_sample": False, **{name: value for name, value in sampling.items() if name == _PENALTY}}
    drawn = any(name in sampling for name in _DRAWN)
    return {**({"do_sample": True} if drawn else {}), **sampling}


def _read(generation: Mapping[str, Any], names: tuple[str, ...]) -> Suggested:
    found: Suggested = {}
    for name in names:
        value: Any = generation.get(name)
        if type(value) not in ((int,) if name == "top_k" else (int, float)):
            continue
        try:
            value = value if name == "top_k" else float(value)
            Sampling(**{name: value})
        except (OwnlmError, OverflowError):
            continue
        found[name] = value
    return found
