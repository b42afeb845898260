"""Mistral: Llama's shape with a window over which every layer looks back (arXiv:2310.06825)."""

from collections.abc import Mapping
from typing import Any

from ownlm.model.config import DecoderConfig
from ownlm.model.families.fields import read_shape, refuse_others, with_defaults, write_shape
from ownlm.model.families.rope_fields import read_rope, write_rope
from ownlm.model.families.tensor_map import TensorMap

MODEL_TYPE = "mistral"
TENSORS = TensorMap()
_DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "sliding_window": 4096,
}


def read_config(fields: Mapping[str, Any]) -> DecoderConfig:
    fields = with_defaults(fields, _DEFAULTS)
    refuse_others(fields, computed=("sliding_window",))
    return DecoderConfig(
        **read_shape(fields), **read_rope(fields), qk_norm="none", sliding_window=fields["sliding_window"]
    )


def write_config(config: DecoderConfig) -> dict[str, Any]:
    return {
        **write_shape(config, "MistralForCausalLM"),
        **write_rope(config),
        "sliding_window": config.sliding_window,
    }
