"""Qwen3's mixture of experts: in most layers a router chooses a few of many feed-forwards (arXiv:2505.09388)."""

from collections.abc import Mapping
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.model.checks import shown
from ownlm.model.config import DecoderConfig
from ownlm.model.families.fields import read_shape, read_window_if_used, refuse_others, with_defaults, write_shape
from ownlm.model.families.rope_fields import read_rope, write_rope
from ownlm.model.families.tensor_map import TensorMap

MODEL_TYPE = "qwen3_moe"
TENSORS = TensorMap()
_DEFAULTS = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 24,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "decoder_sparse_step": 1,
    "moe_intermediate_size": 768,
    "num_experts_per_tok": 8,
    "norm_topk_prob": False,
    "mlp_only_layers": None,
}
_EXPERTS = ("decoder_sparse_step", "moe_intermediate_size", "num_experts_per_tok", "norm_topk_prob")
_COMPUTED = ("attention_bias", "use_sliding_window", "sliding_window", "num_experts", "num_local_experts")


def read_config(fields: Mapping[str, Any]) -> DecoderConfig:
    fields = with_defaults(fields, _DEFAULTS)
    refuse_others(fields, computed=_COMPUTED)
    dense = fields["mlp_only_layers"] or []
    if not isinstance(dense, list):
        raise OwnlmError(f"mlp_only_layers must be a list of layers, got {shown(dense)}")
    return DecoderConfig(
        **read_shape(fields),
        **read_rope(fields),
        attention_bias=fields["attention_bias"],
        attention_output_bias=fields["attention_bias"],
        # Here every layer slides, unlike in Qwen3's dense models.
        sliding_window=read_window_if_used(fields),
        num_experts=fields.get("num_experts", fields.get("num_local_experts", 128)),
        mlp_only_layers=tuple(dense),
        **{name: fields[name] for name in _EXPERTS},
    )


def write_config(config: DecoderConfig) -> dict[str, Any]:
    return {
        **write_shape(config, "Qwen3MoeForCausalLM"),
        **write_rope(config),
        "attention_bias": config.attention_bias,
        "use_sliding_window": config.sliding_window is not None,
        "sliding_window": config.sliding_window,
        "num_experts": config.num_experts,
        "mlp_only_layers": list(config.mlp_only_layers),
        **{name: getattr(config, name) for name in _EXPERTS},
    }
