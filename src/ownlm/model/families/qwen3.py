"""Qwen3 (dense): the shape that ownlm trains from scratch, for every engine opens it.

Source: Qwen3 technical report (arXiv:2505.09388) and config.json as transformers reads it.
"""

from collections.abc import Mapping
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.model.config import DecoderConfig

MODEL_TYPE = "qwen3"
# Under these names config.json and DecoderConfig mean the same.
_SAME = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "max_position_embeddings",
    "rms_norm_eps",
    "tie_word_embeddings",
)


def read_config(fields: Mapping[str, Any]) -> DecoderConfig:
    missing = [name for name in _SAME if name not in fields]
    if missing:
        raise OwnlmError(f"config.json lacks {', '.join(missing)}; it is damaged or of another family")
    if fields.get("use_sliding_window") or fields.get("attention_bias"):
        raise OwnlmError("config.json asks for a sliding window or attention biases, which ownlm lacks for qwen3")
    rope = fields.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default" or fields.get("rope_scaling"):
        raise OwnlmError("config.json asks for scaled RoPE, which ownlm does not apply yet: answers would be wrong")
    theta = rope.get("rope_theta", fields.get("rope_theta", 10_000.0))
    return DecoderConfig(rope_theta=float(theta), **{name: fields[name] for name in _SAME})


def write_config(config: DecoderConfig) -> dict[str, Any]:
    """Both spellings of RoPE and of the dtype: readers before and after transformers 5 differ."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": MODEL_TYPE,
        **{name: getattr(config, name) for name in _SAME},
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "sliding_window": None,
        "initializer_range": 0.02,
        "use_cache": True,
        "torch_dtype": "float32",
        "dtype": "float32",
    }
