"""GPT-NeoX and Pythia: attention and feed-forward side by side, a quarter of each head turns (arXiv:2204.06745)."""

from collections.abc import Mapping
from typing import Any

from ownlm.model.config import DecoderConfig
from ownlm.model.families.fields import read_shape, refuse_others, with_defaults, write_shape
from ownlm.model.families.rope_fields import read_rope, write_rope
from ownlm.model.families.tensor_map import Rule, TensorMap

MODEL_TYPE = "gpt_neox"
_THEIRS, _OURS = "gpt_neox.layers.{}.", "model.layers.{}."
TENSORS = TensorMap(
    rules=(
        Rule("gpt_neox.embed_in", ("model.embed_tokens",)),
        Rule(_THEIRS + "input_layernorm", (_OURS + "input_layernorm",)),
        Rule(
            _THEIRS + "attention.query_key_value",
            (_OURS + "self_attn.q_proj", _OURS + "self_attn.k_proj", _OURS + "self_attn.v_proj"),
            by_head=True,
        ),
        Rule(_THEIRS + "attention.dense", (_OURS + "self_attn.o_proj",)),
        Rule(_THEIRS + "post_attention_layernorm", (_OURS + "post_attention_layernorm",)),
        Rule(_THEIRS + "mlp.dense_h_to_4h", (_OURS + "mlp.up_proj",)),
        Rule(_THEIRS + "mlp.dense_4h_to_h", (_OURS + "mlp.down_proj",)),
        Rule("gpt_neox.final_layer_norm", ("model.norm",)),
        Rule("embed_out", ("lm_head",)),
    ),
    spellings={"lm_head.": "embed_out."},
    unused=(r"attention\.(masked_)?bias$", r"rotary_emb\.inv_freq$"),
)
_DEFAULTS = {
    "vocab_size": 50432,
    "hidden_size": 6144,
    "intermediate_size": 24576,
    "num_hidden_layers": 44,
    "num_attention_heads": 64,
    "hidden_act": "gelu",
    "max_position_embeddings": 2048,
    "layer_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "attention_bias": True,
    "use_parallel_residual": True,
    "rotary_pct": 0.25,
    "rotary_emb_base": 10_000.0,
}


def read_config(fields: Mapping[str, Any]) -> DecoderConfig:
    fields = with_defaults(fields, _DEFAULTS)
    refuse_others(fields, computed=("attention_bias", "use_parallel_residual", "rotary_pct", "partial_rotary_factor"))
    # Every head has its own keys, as wide as the rest: older files name neither.
    shape = read_shape(
        {**fields, "rms_norm_eps": fields["layer_norm_eps"], "num_key_value_heads": None, "head_dim": None}
    )
    return DecoderConfig(
        **shape,
        **read_rope(
            {**fields, "rope_theta": None, "partial_rotary_factor": None},
            theta=fields["rotary_emb_base"],
            part=fields["rotary_pct"],
        ),
        qk_norm="none",
        norm="layer",
        gated=False,
        mlp_bias=True,
        parallel_residual=fields["use_parallel_residual"],
        attention_bias=fields["attention_bias"],
        attention_output_bias=fields["attention_bias"],
    )


def write_config(config: DecoderConfig) -> dict[str, Any]:
    written = {
        **write_shape(config, "GPTNeoXForCausalLM"),
        **write_rope(config),
        "layer_norm_eps": config.rms_norm_eps,
        "attention_bias": config.attention_bias,
        "use_parallel_residual": config.parallel_residual,
        "rotary_pct": config.partial_rotary_factor,
        "rotary_emb_base": config.rope_theta,
    }
    strange = ("rms_norm_eps", "num_key_value_heads", "head_dim", "rope_theta", "partial_rotary_factor")
    return {name: value for name, value in written.items() if name not in strange}
