"""Phi-3 and Phi-4-mini: q, k, v in one tensor, gate and up in another; long contexts by longrope (arXiv:2404.14219)."""

from collections.abc import Mapping
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.model.config import DecoderConfig
from ownlm.model.families.fields import read_shape, refuse_others, with_defaults, write_shape
from ownlm.model.families.rope_fields import read_rope, write_rope
from ownlm.model.families.tensor_map import Rule, TensorMap

MODEL_TYPE = "phi3"
_LAYER = "model.layers.{}."
TENSORS = TensorMap(
    rules=(
        Rule(
            _LAYER + "self_attn.qkv_proj",
            (_LAYER + "self_attn.q_proj", _LAYER + "self_attn.k_proj", _LAYER + "self_attn.v_proj"),
        ),
        Rule(_LAYER + "mlp.gate_up_proj", (_LAYER + "mlp.gate_proj", _LAYER + "mlp.up_proj")),
    )
)
_DEFAULTS = {
    "vocab_size": 32064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "sliding_window": None,
}


def read_config(fields: Mapping[str, Any]) -> DecoderConfig:
    fields = with_defaults(fields, _DEFAULTS)
    refuse_others(fields, computed=("sliding_window", "partial_rotary_factor"))
    # Early files say "su", or "yarn", and mean longrope.
    rope = read_rope(fields, part=1.0, same={"su": "longrope", "yarn": "longrope"})
    if rope["rope_scaling"] is not None and rope["rope_scaling"].rope_type != "longrope":
        raise OwnlmError(f"RoPE is scaled by {rope['rope_scaling'].rope_type}, phi3 knows longrope alone")
    return DecoderConfig(**read_shape(fields), **rope, qk_norm="none", sliding_window=fields["sliding_window"])


def write_config(config: DecoderConfig) -> dict[str, Any]:
    rope = write_rope(config)
    scaling = config.rope_scaling
    original = config.max_position_embeddings if scaling is None else scaling.original_max_position_embeddings
    return {
        **write_shape(config, "Phi3ForCausalLM"),
        **rope,
        "partial_rotary_factor": config.partial_rotary_factor,
        "original_max_position_embeddings": original,
        "sliding_window": config.sliding_window,
    }
