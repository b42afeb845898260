"""Gemma 3, its text part: five sliding layers to a full one, each kind with its own angles, QK-norm (arXiv:2503.19786).

`gemma3` is the model that also sees: its text part alone is opened, and written as the text model `gemma3_text`.
"""

from collections.abc import Mapping
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.model.checks import shown, whole
from ownlm.model.config import DecoderConfig
from ownlm.model.families.fields import refuse_others, with_defaults
from ownlm.model.families.gemma2 import COMPUTED, read_gemma, write_gemma
from ownlm.model.families.rope_fields import read_rope, write_rope
from ownlm.model.families.tensor_map import TensorMap

MODEL_TYPE = "gemma3_text"
TENSORS = TensorMap(
    spellings={
        "language_model.model.": "model.",
        "language_model.lm_head.": "lm_head.",
        "model.language_model.": "model.",
    },
    unused=(r"^(model\.)?vision_tower\.", r"^(model\.)?multi_modal_projector\.", r"rotary_emb\.inv_freq$"),
)
_DEFAULTS = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "attention_bias": False,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "final_logit_softcapping": None,
    "attn_logit_softcapping": None,
    "sliding_window_pattern": 6,
}


def read_config(fields: Mapping[str, Any]) -> DecoderConfig:
    if "text_config" in fields:
        text = fields["text_config"]
        if not isinstance(text, dict):
            raise OwnlmError(f"text_config must be an object, got {shown(text)}")
        fields = {"tie_word_embeddings": fields.get("tie_word_embeddings", True), **text}
    fields = with_defaults({**fields, "model_type": MODEL_TYPE}, _DEFAULTS)
    # The field for capped scores is still there, but QK-norm has taken their place.
    computed = {*COMPUTED, "sliding_window_pattern", "rope_local_base_freq"} - {"attn_logit_softcapping"}
    refuse_others(fields, computed=computed)
    every = whole("sliding_window_pattern", fields["sliding_window_pattern"])
    return DecoderConfig(**read_gemma(fields, full_every=every), **_read_both_ropes(fields))


def _read_both_ropes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Full layers' theta and scaling, and the theta of sliding ones, which are never scaled."""
    nested = fields.get("rope_parameters") or {}
    if not isinstance(nested, dict) or nested.keys() - {"full_attention", "sliding_attention"}:
        raise OwnlmError(f"rope_parameters must hold full_attention and sliding_attention, got {shown(nested)}")
    full = {**fields, "rope_parameters": nested.get("full_attention")}
    # Under `rope_scaling` only the full layers' scaling stands: their theta comes from elsewhere.
    if fields.get("rope_scaling") and isinstance(nested.get("full_attention"), dict):
        full.setdefault("rope_theta", nested["full_attention"].get("rope_theta"))
    local = {**fields, "rope_scaling": None, "rope_parameters": nested.get("sliding_attention")}
    local["rope_theta"] = fields.get("rope_local_base_freq")
    sliding = read_rope(local, theta=10_000.0)
    if sliding["rope_scaling"] is not None:
        raise OwnlmError("rope_parameters scales the angles of sliding layers, which ownlm does not compute")
    return {**read_rope(full, theta=1_000_000.0), "rope_local_base_freq": sliding["rope_theta"]}


def write_config(config: DecoderConfig) -> dict[str, Any]:
    full = write_rope(config)
    local = {"rope_type": "default", "rope_theta": config.rope_local_base_freq}
    return {
        **write_gemma(config, "Gemma3ForCausalLM"),
        **full,
        "rope_local_base_freq": config.rope_local_base_freq,
        "rope_parameters": {"full_attention": full["rope_parameters"], "sliding_attention": local},
    }
