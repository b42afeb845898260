"""Qwen2 and Qwen2.5: Llama's shape with biases at q, k and v (arXiv:2407.10671)."""

from collections.abc import Mapping
from typing import Any

from ownlm.model.config import DecoderConfig
from ownlm.model.families import windows
from ownlm.model.families.fields import read_shape, refuse_others, with_defaults, write_shape
from ownlm.model.families.rope_fields import read_rope, write_rope
from ownlm.model.families.tensor_map import TensorMap

MODEL_TYPE = "qwen2"
TENSORS = TensorMap()
_DEFAULTS = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    **windows.DEFAULTS,
}


def read_config(fields: Mapping[str, Any]) -> DecoderConfig:
    fields = with_defaults(fields, _DEFAULTS)
    refuse_others(fields, computed=windows.COMPUTED)
    return DecoderConfig(
        **read_shape(fields), **read_rope(fields), **windows.read_windows(fields), qk_norm="none", attention_bias=True
    )


def write_config(config: DecoderConfig) -> dict[str, Any]:
    return {
        **write_shape(config, "Qwen2ForCausalLM"),
        **write_rope(config),
        **windows.write_windows(config),
    }
