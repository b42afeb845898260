"""config.json's fields as a GGUF file's metadata: the other way of gguf_config.py.

In:  fields, complete as families/ write them. Out: keys with values, and the tables of RoPE factors. What llama.cpp
would compute otherwise than these fields say is refused: its answers would be wrong, and nobody would be told.
"""

from collections.abc import Mapping
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.model.formats.gguf_architectures import Architecture
from ownlm.model.formats.gguf_config import GEMMA2_CAPS, GEMMA_PATTERN, GRANITE, gemma_scalar
from ownlm.model.formats.gguf_rope import write_rope_scaling

Tables = dict[str, list[float]]


def write_metadata(fields: Mapping[str, Any], architecture: Architecture) -> tuple[dict[str, Any], Tables]:
    """All keys of the architecture, under its name, and the tensors of RoPE factors."""
    _refuse_others(fields, architecture)
    keys: dict[str, Any] = {}
    for field, key in architecture.counts.items():
        keys[key] = _count(fields, field)
    for field, key in architecture.numbers.items():
        keys[key] = float(_given(fields, field))
    keys["vocab_size"] = _count(fields, "vocab_size")
    tables: Tables = {}
    if architecture.name == "gpt2":
        return _named(keys, architecture), tables
    _write_attention(fields, architecture, keys)
    tables = _write_rope(fields, architecture, keys)
    _write_own(fields, architecture, keys)
    if not architecture.slides and keys.get("attention.sliding_window"):
        # Up to there the window hides nothing; past it llama.cpp, which has none here, would give wrong answers.
        keys["context_length"] = min(keys["context_length"], keys["attention.sliding_window"])
    return _named(keys, architecture), tables


def _named(keys: Mapping[str, Any], architecture: Architecture) -> dict[str, Any]:
    return {f"{architecture.name}.{key}": value for key, value in keys.items()}


def _refuse_others(fields: Mapping[str, Any], architecture: Architecture) -> None:
    for field, value in architecture.fixed.items():
        given = fields.get(field)
        if given is not None and given != value:
            raise OwnlmError(
                f"llama.cpp computes {architecture.name} with {field} {value!r}, and this model has {given!r}: "
                "as a GGUF file it would give wrong answers; write a folder instead"
            )


def _given(fields: Mapping[str, Any], field: str) -> Any:
    value = fields.get(field)
    if value is None:
        raise OwnlmError(f"the model's configuration lacks {field}, without which no GGUF can be written; add it")
    return value


def _count(fields: Mapping[str, Any], field: str) -> int:
    value = _given(fields, field)
    if type(value) is not int or value < 1:
        raise OwnlmError(f"the model's {field} is {value!r}, no count; restore its files")
    return value


def _head_dim(fields: Mapping[str, Any]) -> int:
    if fields.get("head_dim") is None:
        return _count(fields, "hidden_size") // _count(fields, "num_attention_heads")
    return _count(fields, "head_dim")


def _write_attention(fields: Mapping[str, Any], architecture: Architecture, keys: dict[str, Any]) -> None:
    if fields.get("num_key_value_heads") is not None:
        keys["attention.head_count_kv"] = _count(fields, "num_key_value_heads")
    keys["attention.key_length"] = keys["attention.value_length"] = _head_dim(fields)
    window = fields.get("sliding_window") or 0
    if architecture.name in ("phi3", *GEMMA_PATTERN) or (window and architecture.model_type == "mistral"):
        keys["attention.sliding_window"] = window


def _write_rope(fields: Mapping[str, Any], architecture: Architecture, keys: dict[str, Any]) -> Tables:
    nested = fields.get("rope_parameters") or {}
    full = nested.get("full_attention", nested)
    section = {**full, **(fields.get("rope_scaling") or {})}
    theta = float(_given(full, "rope_theta"))
    turned = int(_head_dim(fields) * float(section.get("partial_rotary_factor") or 1.0))
    keys["rope.dimension_count"], keys["rope.freq_base"] = turned, theta
    if fields.get("original_max_position_embeddings"):
        section["original_max_position_embeddings"] = fields["original_max_position_embeddings"]
    context = keys["context_length"]
    scaling, tables = write_rope_scaling(
        section, context=context, turned=turned, theta=theta, tensors=architecture.rope_tensors, name=architecture.name
    )
    keys |= scaling
    if architecture.name == "phi3":
        keys["rope.scaling.original_context_length"] = section.get("original_max_position_embeddings") or context
    if architecture.name == "gemma3":
        keys["rope.freq_base_swa"] = float(_given(fields, "rope_local_base_freq"))
    return tables


def _write_own(fields: Mapping[str, Any], architecture: Architecture, keys: dict[str, Any]) -> None:
    """What this architecture has beside the rest."""
    match architecture.name:
        case "gptneox":
            keys["use_parallel_residual"] = bool(_given(fields, "use_parallel_residual"))
        case "qwen3moe":
            keys["expert_feed_forward_length"] = _count(fields, "moe_intermediate_size")
        case "granite":
            keys |= {key: float(_given(fields, field)) for field, (key, _) in GRANITE.items()}
            keys["attention.scale"] = float(_given(fields, "attention_multiplier"))
        case "gemma2" | "gemma3":
            _write_gemma(fields, architecture.name, keys)


def _write_gemma(fields: Mapping[str, Any], name: str, keys: dict[str, Any]) -> None:
    layers, every = keys["block_count"], GEMMA_PATTERN[name]
    usual = [layer % every < every - 1 for layer in range(layers)]
    sliding = [kind == "sliding_attention" for kind in _given(fields, "layer_types")]
    if len(sliding) != layers:
        raise OwnlmError(f"layer_types names {len(sliding)} layers of {layers}; restore the model's files")
    if sliding != usual:
        keys["attention.sliding_window_pattern"] = sliding
    expected = gemma_scalar(name, {**fields, "head_dim": _head_dim(fields)})
    scalar = _given(fields, "query_pre_attn_scalar")
    if scalar != expected:
        raise OwnlmError(
            f"llama.cpp divides a {name}'s scores by the root of {expected}, and this model's query_pre_attn_scalar is "
            f"{scalar}: as a GGUF file it would give wrong answers; write a folder instead"
        )
    for field in GEMMA2_CAPS:
        if fields.get(field):
            keys[field] = float(fields[field])
        elif name == "gemma2":
            raise OwnlmError(
                f"llama.cpp caps every gemma2's logits, and this model's {field} is null; write a folder instead"
            )
