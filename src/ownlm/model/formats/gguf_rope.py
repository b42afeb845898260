"""RoPE scaling between GGUF and config.json.

     rope.scaling.type, .factor ...                   ◀──▶  linear, yarn
     rope_freqs.weight        [D/2]                   ◀──▶  llama3
     rope_factors_long.weight, ..._short.weight       ◀──▶  longrope

GGUF keeps what Llama 3's formula gives, not what goes into it: that is found again, or the factors stand as longrope's
with both lists alike, which computes the same. Sources: llama.cpp (llama-model.cpp, llama-context.cpp, conversion/),
transformers' modeling_rope_utils.py.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.model.formats.gguf_keys import Keys, short

LLAMA3, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
ROPE_TENSORS = (LLAMA3, LONG, SHORT)
_CLOSE = 1e-4
# Llama 3.1's own, which nearly every file has.
_KNOWN = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}

# The factors in a tensor of the file, or None where there is none.
Factors = Callable[[str], list[float] | None]


def read_rope_scaling(keys: Keys, factors: Factors, *, turned: int, theta: float) -> dict[str, Any] | None:
    """config.json's `rope_scaling`, None without. `turned`: channels of a head that turn."""
    context = keys.count("context_length")
    original = keys.count("rope.scaling.original_context_length", context)
    long, short_, llama3 = factors(LONG), factors(SHORT), factors(LLAMA3)
    if (long is None) != (short_ is None):
        keys.damaged("it has one of two tables of RoPE factors")
    for table in (long, short_, llama3):
        if table is not None and (len(table) != turned // 2 or not all(1e-6 < factor < 1e6 for factor in table)):
            keys.damaged(f"a table of RoPE factors does not fit the {turned // 2} pairs of channels that turn")
    if long is not None and short_ is not None:
        scaling = _longrope(short_, long, original)
        attention = keys.number("rope.scaling.attn_factor", 1.0)
        if not math.isclose(attention, _longrope_attention(context, original), rel_tol=1e-5):
            scaling["attention_factor"] = attention
        return scaling
    if llama3 is not None:
        given = original if keys.has("rope.scaling.original_context_length") else None
        return _from_factors(llama3, turned, theta, given) or {
            **_longrope(llama3, llama3, max(2, context)),
            "attention_factor": 1.0,
        }
    kind = keys.value("rope.scaling.type")
    factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 0.0))
    if kind == "none" or factor in (0, 1):
        return None
    if kind in ("linear", None):
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        return _read_yarn(keys, factor, original)
    raise OwnlmError(f"{keys.path} scales RoPE by {kind!r}, which ownlm does not compute; take another model")


def _read_yarn(keys: Keys, factor: float, original: int) -> dict[str, Any]:
    scaling = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    for key in ("beta_fast", "beta_slow"):
        if keys.has(f"rope.scaling.yarn_{key}"):
            scaling[key] = keys.number(f"rope.scaling.yarn_{key}")
    # llama.cpp multiplies what it finds here with yarn's own factor; the converter's other key is that whole.
    beside = keys.number("rope.scaling.attn_factor", 1.0)
    if beside != 1:
        scaling["attention_factor"] = short(beside * _yarn_attention(factor))
    elif keys.has("rope.scaling.yarn_attn_factor"):
        scaling["attention_factor"] = keys.number("rope.scaling.yarn_attn_factor")
    return scaling


def write_rope_scaling(
    scaling: Mapping[str, Any], *, context: int, turned: int, theta: float, tensors: bool, name: str
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Keys (after the architecture's name) and tables. `tensors`: llama.cpp reads tables for this architecture."""
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind in ("llama3", "longrope", "su") and not tensors:
        raise OwnlmError(
            f"llama.cpp computes no RoPE scaling of type {kind} for {name}, so no GGUF can say it; "
            "write a folder instead"
        )
    original = scaling.get("original_max_position_embeddings") or context
    match kind:
        case "default":
            return {}, {}
        case "linear":
            return {"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling["factor"])}, {}
        case "yarn":
            return _write_yarn(scaling, original), {}
        case "llama3":
            return {"rope.scaling.original_context_length": original}, {LLAMA3: llama3_factors(scaling, turned, theta)}
        case "longrope" | "su":
            attention = scaling.get("attention_factor") or _longrope_attention(context, original)
            keys = {
                "rope.scaling.type": "longrope",
                "rope.scaling.original_context_length": original,
                "rope.scaling.attn_factor": float(attention),
            }
            return keys, {LONG: list(scaling["long_factor"]), SHORT: list(scaling["short_factor"])}
    raise OwnlmError(
        f"GGUF has no RoPE scaling of type {kind!r}: llama.cpp would give wrong answers past {original} tokens; "
        "write a folder instead"
    )


def _write_yarn(scaling: Mapping[str, Any], original: int) -> dict[str, Any]:
    fixed = {"beta_fast": 32, "beta_slow": 1, "mscale": None, "mscale_all_dim": None, "truncate": True}
    for field, value in fixed.items():
        if scaling.get(field) not in (None, value):
            raise OwnlmError(
                f"llama.cpp computes yarn with {field} {value}, and this model has {scaling[field]}; "
                "write a folder instead"
            )
    factor = float(scaling["factor"])
    keys = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": original,
    }
    if scaling.get("attention_factor") is not None:
        keys["rope.scaling.attn_factor"] = float(scaling["attention_factor"]) / _yarn_attention(factor)
    return keys


def llama3_factors(scaling: Mapping[str, Any], turned: int, theta: float) -> list[float]:
    """By how much each pair's angle is divided: 1 for short waves, `factor` for long ones, between them a ramp."""
    factor, low, high = (float(scaling[name]) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    original = float(scaling["original_max_position_embeddings"])
    factors = []
    for turns in _turns_per_token(turned, theta):
        if original * turns > high:
            factors.append(1.0)
        elif original * turns < low:
            factors.append(factor)
        else:
            smooth = (original * turns - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


def _turns_per_token(turned: int, theta: float) -> list[float]:
    """One over each pair's wavelength."""
    return [theta ** (-2 * pair / turned) / (2 * math.pi) for pair in range(turned // 2)]


def _from_factors(factors: Sequence[float], turned: int, theta: float, original: int | None) -> dict[str, Any] | None:
    """What went into Llama 3's formula, if that gives these factors."""
    factor = short(max(factors))
    if factor <= 1:
        return None
    known = {**_KNOWN, **({"original_max_position_embeddings": original} if original else {})}
    for guess in (known, _solved(factors, turned, theta, factor, original)):
        if guess is not None:
            scaling = {"rope_type": "llama3", "factor": factor, **guess}
            computed = llama3_factors(scaling, turned, theta)
            if all(math.isclose(*pair, rel_tol=_CLOSE) for pair in zip(computed, factors, strict=True)):
                return scaling
    return None


def _solved(
    factors: Sequence[float], turned: int, theta: float, factor: float, original: int | None
) -> dict[str, Any] | None:
    """Two pairs on the ramp give its slope and start; without `original`, low_freq_factor is taken as 1."""
    on_ramp = [
        (turns, (1 / found - 1 / factor) / (1 - 1 / factor))
        for turns, found in zip(_turns_per_token(turned, theta), factors, strict=True)
        if 1 + _CLOSE < found < factor * (1 - _CLOSE)
    ]
    if len(on_ramp) < 2:
        return None
    (first_turns, first), (last_turns, last) = on_ramp[0], on_ramp[-1]
    slope = (first - last) / (first_turns - last_turns)
    start = slope * last_turns - last
    if slope <= 0 or start <= 0:
        return None
    width = original / slope if original else 1 / start
    low = float(f"{start * width:.4g}")
    return {
        "low_freq_factor": low,
        "high_freq_factor": float(f"{low + width:.4g}"),
        "original_max_position_embeddings": original or max(2, round(slope * width)),
    }


def _longrope(short_: list[float], long: list[float], original: int) -> dict[str, Any]:
    return {
        "rope_type": "longrope",
        "short_factor": [short(factor) for factor in short_],
        "long_factor": [short(factor) for factor in long],
        "original_max_position_embeddings": original,
    }


def _longrope_attention(context: int, original: int) -> float:
    if context <= original or original < 2:
        return 1.0
    return math.sqrt(1 + math.log(context / original) / math.log(original))


def _yarn_attention(factor: float) -> float:
    return 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
