"""OLMo 2: norms only after attention and feed-forward, q and k normalised as a whole (arXiv:2501.00656)."""

from collections.abc import Mapping
from typing import Any

from ownlm.model.config import DecoderConfig
from ownlm.model.families.fields import read_shape, refuse_others, with_defaults, write_shape
from ownlm.model.families.rope_fields import read_rope, write_rope
from ownlm.model.families.tensor_map import TensorMap

MODEL_TYPE = "olmo2"
TENSORS = TensorMap()
_DEFAULTS = {
    "vocab_size": 50304,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "attention_bias": False,
}


def read_config(fields: Mapping[str, Any]) -> DecoderConfig:
    fields = with_defaults(fields, _DEFAULTS)
    refuse_others(fields, computed=("attention_bias",))
    return DecoderConfig(
        **read_shape(fields),
        **read_rope(fields),
        pre_norm=False,
        post_norm=True,
        qk_norm="all",
        attention_bias=fields["attention_bias"],
        attention_output_bias=fields["attention_bias"],
    )


def write_config(config: DecoderConfig) -> dict[str, Any]:
    return {
        **write_shape(config, "Olmo2ForCausalLM"),
        **write_rope(config),
        "attention_bias": config.attention_bias,
    }
