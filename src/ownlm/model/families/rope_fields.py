"""RoPE in a config.json: `rope_theta` at the top and `rope_scaling`, or all of it in `rope_parameters`.

Readers before transformers 5 know the first spelling, those after it both; what is written holds both.
"""

from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.model.checks import shown
from ownlm.model.config import DecoderConfig
from ownlm.model.rope_scaling import RopeScaling

_SCALING = {field.name for field in dataclass_fields(RopeScaling)} - {"rope_type"}
# `finetuned` says how the weights were made, and changes nothing that is computed.
_KNOWN = {*_SCALING, "rope_type", "type", "rope_theta", "partial_rotary_factor", "finetuned"}
_WITH_ORIGINAL = ("yarn", "llama3", "longrope")


def read_rope(
    fields: Mapping[str, Any],
    *,
    theta: float = 10_000.0,
    part: float | None = None,
    same: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """DecoderConfig's keywords for RoPE. `theta` and `part` are the family's defaults; `part` None: whole heads turn.

    `same`: other names that the family has for a type.
    """
    given = rope_section(fields)
    kind = given.get("rope_type", given.get("type", "default"))
    kind = (same or {}).get(kind, kind) if isinstance(kind, str) else kind
    turned = given.get("partial_rotary_factor", fields.get("partial_rotary_factor"))
    if part is None and turned not in (None, 1):
        raise OwnlmError(f"partial_rotary_factor is {shown(turned)}, which ownlm does not compute for this family")
    base = given.get("rope_theta", fields.get("rope_theta"))
    return {
        "rope_theta": theta if base is None else base,
        "rope_scaling": None if kind == "default" else _scaling(kind, given, fields),
        "partial_rotary_factor": (part or 1.0) if turned is None else turned,
    }


def rope_section(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """`rope_scaling` or, where there is none, `rope_parameters`; an unknown key is refused."""
    given = fields.get("rope_scaling") or fields.get("rope_parameters") or {}
    if not isinstance(given, dict):
        raise OwnlmError(f"rope_scaling must be an object, got {shown(given)}")
    unknown = sorted(given.keys() - _KNOWN)
    if unknown:
        raise OwnlmError(f"rope_scaling holds {shown(unknown[0])}, which ownlm does not compute")
    return given


def _scaling(kind: Any, given: Mapping[str, Any], fields: Mapping[str, Any]) -> RopeScaling:
    values = {name: given[name] for name in _SCALING if given.get(name) is not None}
    for name in ("short_factor", "long_factor"):
        if isinstance(values.get(name), list):
            values[name] = tuple(values[name])
    longest = fields.get("max_position_embeddings")
    if kind in _WITH_ORIGINAL:
        # transformers' order: the top of the file, then the section, then today's context.
        original = fields.get("original_max_position_embeddings") or values.get("original_max_position_embeddings")
        values["original_max_position_embeddings"] = original = original or longest
        if kind != "llama3" and "factor" not in values and type(original) is type(longest) is int:
            values["factor"] = longest / max(1, original)
    return RopeScaling(rope_type=kind, **values)


def write_rope(config: DecoderConfig) -> dict[str, Any]:
    scaling = None if config.rope_scaling is None else config.rope_scaling.given()
    section = {**(scaling or {"rope_type": "default"}), "rope_theta": config.rope_theta}
    written: dict[str, Any] = {"rope_theta": config.rope_theta, "rope_scaling": scaling, "rope_parameters": section}
    if config.partial_rotary_factor != 1:
        section["partial_rotary_factor"] = config.partial_rotary_factor
        written["partial_rotary_factor"] = config.partial_rotary_factor
    return written
