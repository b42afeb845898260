"""Granite 3: Llama's shape with fixed multipliers of the embedding, the stream, the scores and the logits.

Source: config.json as transformers reads it; the multipliers are those of muP (arXiv:2203.03466).
"""

from collections.abc import Mapping
from typing import Any

from ownlm.model.config import DecoderConfig
from ownlm.model.families import llama
from ownlm.model.families.fields import read_shape, refuse_others, with_defaults, write_shape
from ownlm.model.families.rope_fields import read_rope, write_rope
from ownlm.model.families.tensor_map import TensorMap

MODEL_TYPE = "granite"
TENSORS = TensorMap()
_MULTIPLIERS = ("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling")
_DEFAULTS = {**llama.DEFAULTS, **dict.fromkeys(_MULTIPLIERS, 1.0)}


def read_config(fields: Mapping[str, Any]) -> DecoderConfig:
    fields = with_defaults(fields, _DEFAULTS)
    refuse_others(fields, computed=("attention_bias", "mlp_bias", *_MULTIPLIERS))
    return DecoderConfig(
        **read_shape(fields),
        **read_rope(fields),
        qk_norm="none",
        attention_bias=fields["attention_bias"],
        attention_output_bias=fields["attention_bias"],
        mlp_bias=fields["mlp_bias"],
        **{name: fields[name] for name in _MULTIPLIERS},
    )


def write_config(config: DecoderConfig) -> dict[str, Any]:
    return {
        **write_shape(config, "GraniteForCausalLM"),
        **write_rope(config),
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        **{name: getattr(config, name) for name in _MULTIPLIERS},
    }
