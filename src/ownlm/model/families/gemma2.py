"""Gemma 2: capped scores and logits, norms before and after, every second layer slides (arXiv:2408.00118)."""

from collections.abc import Mapping
from typing import Any

from ownlm.model.checks import whole
from ownlm.model.config import FULL, SLIDING, DecoderConfig
from ownlm.model.families.fields import read_layer_types, read_shape, refuse_others, with_defaults, write_shape
from ownlm.model.families.rope_fields import read_rope, write_rope
from ownlm.model.families.tensor_map import TensorMap

MODEL_TYPE = "gemma2"
TENSORS = TensorMap()
_DEFAULTS = {
    "vocab_size": 256000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "final_logit_softcapping": 30.0,
    "attn_logit_softcapping": 50.0,
}
# What this file and Gemma 3's read in the same way.
OWN = ("query_pre_attn_scalar", "sliding_window", "final_logit_softcapping", "attn_logit_softcapping")
COMPUTED = ("attention_bias", "layer_types", *OWN)


def read_config(fields: Mapping[str, Any]) -> DecoderConfig:
    fields = with_defaults(fields, _DEFAULTS)
    refuse_others(fields, computed=COMPUTED)
    return DecoderConfig(**read_gemma(fields, full_every=2), **read_rope(fields), qk_norm="none")


def read_gemma(fields: Mapping[str, Any], *, full_every: int) -> dict[str, Any]:
    """DecoderConfig's keywords that Gemma 2 and 3 share; one layer in `full_every` is full if the file names none."""
    layers = whole("num_hidden_layers", fields["num_hidden_layers"], most=2**11)
    alternating = tuple(SLIDING if (layer + 1) % full_every else FULL for layer in range(layers))
    # Older files name only hidden_act, "gelu", and mean its tanh form: hidden_activation rules.
    activation = fields.get("hidden_activation") or "gelu_pytorch_tanh"
    return {
        **read_shape({**fields, "hidden_act": activation}),
        **{name: fields[name] for name in OWN},
        "layer_types": read_layer_types(fields) or alternating,
        "attention_bias": fields["attention_bias"],
        "attention_output_bias": fields["attention_bias"],
        "norm_offset": 1.0,
        "post_norm": True,
        "embedding_multiplier": float(fields["hidden_size"]) ** 0.5,
    }


def write_config(config: DecoderConfig) -> dict[str, Any]:
    return {**write_gemma(config, "Gemma2ForCausalLM"), **write_rope(config)}


def write_gemma(config: DecoderConfig, architecture: str) -> dict[str, Any]:
    return {
        **write_shape(config, architecture),
        **{name: getattr(config, name) for name in OWN},
        "hidden_activation": config.hidden_act,
        "layer_types": list(config.layer_types),
        "attention_bias": config.attention_bias,
    }
