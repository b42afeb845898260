"""Llama 1, 2 and 3, and what has their shape: TinyLlama, SmolLM2.

Sources: LLaMA (arXiv:2302.13971), The Llama 3 herd (arXiv:2407.21783), SmolLM2 (arXiv:2502.02737).
"""

from collections.abc import Mapping
from typing import Any

from ownlm.model.config import DecoderConfig
from ownlm.model.families.fields import read_shape, refuse_others, with_defaults, write_shape
from ownlm.model.families.rope_fields import read_rope, write_rope
from ownlm.model.families.tensor_map import TensorMap

MODEL_TYPE = "llama"
TENSORS = TensorMap()
DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
}


def read_config(fields: Mapping[str, Any]) -> DecoderConfig:
    fields = with_defaults(fields, DEFAULTS)
    refuse_others(fields, computed=("attention_bias", "mlp_bias"))
    return DecoderConfig(
        **read_shape(fields),
        **read_rope(fields),
        qk_norm="none",
        attention_bias=fields["attention_bias"],
        attention_output_bias=fields["attention_bias"],
        mlp_bias=fields["mlp_bias"],
    )


def write_config(config: DecoderConfig) -> dict[str, Any]:
    return {
        **write_shape(config, "LlamaForCausalLM"),
        **write_rope(config),
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
    }
