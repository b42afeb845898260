"""Reading a config.json: its fields with the family's defaults, and the refusal of what would change the result.

Real files leave much out; what is missing takes the family's own default in transformers. A default of None means:
follows from other fields.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch

from ownlm.errors import OwnlmError
from ownlm.model.checks import flag, shown, whole
from ownlm.model.config import FULL, SLIDING, DecoderConfig

# Fields that change what is computed, and the values at which they change nothing. A family that computes one says so.
_CHANGES: dict[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "alibi": (False,),
    "attention_bias": (False,),
    "attention_multiplier": (),
    "attn_logit_softcapping": (None,),
    "clip_qkv": (None,),
    "embedding_multiplier": (1,),
    "final_logit_softcapping": (None,),
    "lm_head_bias": (False,),
    "logits_scaling": (1,),
    "mlp_bias": (False,),
    "num_experts": (None, 0),
    "num_local_experts": (None, 0),
    "partial_rotary_factor": (None, 1),
    "quantization_config": (None,),
    "query_pre_attn_scalar": (None,),
    "residual_multiplier": (1,),
    "rope_interleaved": (False,),
    "rope_local_base_freq": (None,),
    "rotary_pct": (None, 1),
    "scale_attn_by_inverse_layer_idx": (False,),
    "scale_attn_weights": (True,),
    "sliding_window": (None,),
    "sliding_window_pattern": (None,),
    "use_bidirectional_attention": (None, False),
    "use_mrope": (None, False),
    "use_parallel_residual": (False,),
    "use_qk_norm": (None, False),
    "use_sliding_window": (None, False),
}
_SHAPE = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_MORE = ("max_position_embeddings", "rms_norm_eps", "hidden_act", "tie_word_embeddings")
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16", torch.float64: "float64"}


def with_defaults(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {**defaults, **fields}


def refuse_others(fields: Mapping[str, Any], *, computed: Collection[str] = ()) -> None:
    """Refuse fields that ask for what this family's file does not compute."""
    slides = fields.get("use_sliding_window", True) and fields.get("sliding_window") is not None
    alike = [SLIDING if slides else FULL] * len(read_layer_types(fields))
    for name, harmless in {**_CHANGES, "layer_types": (None, alike)}.items():
        if name in fields and name not in computed and not any(_same(fields[name], value) for value in harmless):
            raise OwnlmError(
                f"{name} is {shown(fields[name])}, which ownlm does not compute for "
                f"{shown(fields.get('model_type'))}: answers would be wrong"
            )


def _same(one: Any, other: Any) -> bool:
    """Equal, and true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def read_shape(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What nearly all families call alike, as DecoderConfig's keywords; heads' sizes follow where they are missing."""
    heads, hidden = (whole(name, fields.get(name)) for name in ("num_attention_heads", "hidden_size"))
    head_dim, key_heads = fields.get("head_dim"), fields.get("num_key_value_heads")
    if head_dim is None and hidden % heads:
        raise OwnlmError(f"hidden_size ({hidden}) must be a multiple of num_attention_heads ({heads})")
    return {
        "model_type": fields.get("model_type"),
        **{name: fields.get(name) for name in (*_SHAPE, *_MORE)},
        "num_key_value_heads": heads if key_heads is None else key_heads,
        "head_dim": hidden // heads if head_dim is None else head_dim,
    }


def write_shape(config: DecoderConfig, architecture: str) -> dict[str, Any]:
    names = (*_SHAPE, *_MORE, "num_key_value_heads", "head_dim")
    return {
        "architectures": [architecture],
        "model_type": config.model_type,
        **{name: getattr(config, name) for name in names},
        "initializer_range": 0.02,
        "use_cache": True,
    }


def read_layer_types(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """One kind a layer, or none. Also where all are alike, as most families must have it, a list is of all layers."""
    kinds = fields.get("layer_types")
    if kinds is None:
        return ()
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise OwnlmError(f"layer_types must be a list of names, got {shown(kinds)}")
    if len(kinds) != (layers := fields.get("num_hidden_layers")):
        raise OwnlmError(f"layer_types names {len(kinds)} layers, and num_hidden_layers is {shown(layers)}")
    return tuple(kinds)


def read_window_if_used(fields: Mapping[str, Any]) -> int | None:
    """`sliding_window`, which means nothing unless `use_sliding_window` says so; published files then hold 0, too."""
    used, window = flag("use_sliding_window", fields["use_sliding_window"]), fields["sliding_window"]
    if used or window is not None:
        whole("sliding_window", window, least=1 if used else 0)
    return window if used else None


def dtype_fields(dtype: torch.dtype) -> dict[str, str]:
    """Both spellings: readers before and after transformers 5 differ."""
    return {"torch_dtype": _DTYPES[dtype], "dtype": _DTYPES[dtype]}
