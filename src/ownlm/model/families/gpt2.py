"""GPT-2: LayerNorm, learned positions, one tensor for q, k and v, matrices stored as [in, out].

Source: Language models are unsupervised multitask learners (Radford et al. 2019), config.json as transformers reads it.
"""

from collections.abc import Mapping
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.model.checks import flag, whole
from ownlm.model.config import DecoderConfig
from ownlm.model.families.fields import read_shape, refuse_others, with_defaults
from ownlm.model.families.tensor_map import Rule, TensorMap

MODEL_TYPE = "gpt2"
_THEIRS, _OURS = "transformer.h.{}.", "model.layers.{}."
TENSORS = TensorMap(
    rules=(
        Rule("transformer.wte", ("model.embed_tokens",)),
        Rule("transformer.wpe", ("model.embed_positions",)),
        Rule(_THEIRS + "ln_1", (_OURS + "input_layernorm",)),
        Rule(
            _THEIRS + "attn.c_attn",
            (_OURS + "self_attn.q_proj", _OURS + "self_attn.k_proj", _OURS + "self_attn.v_proj"),
            transposed=True,
        ),
        Rule(_THEIRS + "attn.c_proj", (_OURS + "self_attn.o_proj",), transposed=True),
        Rule(_THEIRS + "ln_2", (_OURS + "post_attention_layernorm",)),
        Rule(_THEIRS + "mlp.c_fc", (_OURS + "mlp.up_proj",), transposed=True),
        Rule(_THEIRS + "mlp.c_proj", (_OURS + "mlp.down_proj",), transposed=True),
        Rule("transformer.ln_f", ("model.norm",)),
    ),
    # The first files, gpt2's own among them, name the trunk's tensors alone.
    spellings={name: f"transformer.{name}" for name in ("h.", "wte.", "wpe.", "ln_f.")},
    unused=(r"\.attn\.(masked_)?bias$",),
)
# Its own names, and ours. transformers takes either.
_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings",
    "n_inner": "intermediate_size",
    "activation_function": "hidden_act",
    "layer_norm_epsilon": "rms_norm_eps",
}
_DEFAULTS = {
    "vocab_size": 50257,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 1024,
    "intermediate_size": None,
    "hidden_act": "gelu_new",
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "scale_attn_weights": True,
}


def read_config(fields: Mapping[str, Any]) -> DecoderConfig:
    ours = {_NAMES.get(name, name): value for name, value in fields.items()}
    fields = with_defaults(ours, _DEFAULTS)
    refuse_others(fields, computed=("scale_attn_weights",))
    if fields["intermediate_size"] is None:
        fields["intermediate_size"] = 4 * whole("n_embd", fields["hidden_size"], most=2**18)
    scaled = flag("scale_attn_weights", fields["scale_attn_weights"])
    return DecoderConfig(
        **read_shape({**fields, "num_key_value_heads": None, "head_dim": None}),
        qk_norm="none",
        norm="layer",
        learned_positions=True,
        gated=False,
        mlp_bias=True,
        attention_bias=True,
        attention_output_bias=True,
        attention_multiplier=None if scaled else 1.0,
    )


def write_config(config: DecoderConfig) -> dict[str, Any]:
    if config.attention_multiplier not in (None, 1.0):
        raise OwnlmError(
            f"gpt2 has no attention_multiplier, and this model's is {config.attention_multiplier}; "
            "name another model_type"
        )
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": MODEL_TYPE,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_word_embeddings,
        "scale_attn_weights": config.attention_multiplier is None,
        "n_ctx": config.max_position_embeddings,
        **{theirs: getattr(config, ours) for theirs, ours in _NAMES.items()},
    }
