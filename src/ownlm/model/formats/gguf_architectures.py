"""The architectures that GGUF files are read and written for: a table each of config fields and tensor names.

     llama.block_count      ◀──▶  num_hidden_layers
     blk.3.attn_q.weight    ◀──▶  model.layers.3.self_attn.q_proj.weight, its rows in another order

Sources: llama.cpp's conversion scripts and loaders, and config.json as transformers reads it.
`tests/unit/test_gguf_names.py` holds the names against the gguf package's own map.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.model.formats.gguf_layouts import Layout

_COUNTS = {
    "max_position_embeddings": "context_length",
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
}
_RMS = {"rms_norm_eps": "attention.layer_norm_rms_epsilon"}


@dataclass(frozen=True)
class Rule:
    """Names without `.weight` and `.bias`; `{}` is the layer's number, `{expert}` an expert's."""

    hf: str
    gguf: str
    layout: Layout = Layout.PLAIN


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """`counts` and `numbers`: config.json's field and GGUF's key, without the architecture's name before it.

    `fixed` holds what llama.cpp computes without being told; on writing, a model that asks for something else is
    refused. `rope_tensors`: llama.cpp reads a table of angle factors for it. `own_head`: it never ties the head.
    `slides`: it computes the window that the model may have.
    """

    name: str
    model_type: str
    model_class: str
    rules: tuple[Rule, ...]
    counts: Mapping[str, str] = field(default_factory=lambda: _COUNTS)
    numbers: Mapping[str, str] = field(default_factory=lambda: _RMS)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    rope_tensors: bool = False
    own_head: bool = False
    slides: bool = True


def _rules(prefix: str, outer: Mapping[str, str], layer: Mapping[str, Any]) -> tuple[Rule, ...]:
    """`layer` maps what follows the layer's number; a value is a name, or a name and a layout."""
    rules = [Rule(hf, gguf) for hf, gguf in outer.items()]
    for hf, target in layer.items():
        gguf, layout = target if isinstance(target, tuple) else (target, Layout.PLAIN)
        rules.append(Rule(f"{prefix}.{{}}.{hf}", f"blk.{{}}.{gguf}", layout))
    return tuple(rules)


def _shifted(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Gemma's norms: the file holds what is multiplied with, config.json's models that less one."""
    return tuple(
        Rule(rule.hf, rule.gguf, Layout.NORM_PLUS_ONE if rule.gguf.endswith("norm") else rule.layout) for rule in rules
    )


_SILU = {"hidden_act": "silu"}
_NO_WINDOW = {"use_sliding_window": False}
_GEMMA_ACT = {"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False}

_OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_HEADLESS = {name: gguf for name, gguf in _OUTER.items() if gguf != "output"}
_ATTENTION = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
}
# RoPE turns neighbours here, where Hugging Face's turns halves.
_TURNED = {
    **_ATTENTION,
    "self_attn.q_proj": ("attn_q", Layout.QUERY_ROWS),
    "self_attn.k_proj": ("attn_k", Layout.KEY_ROWS),
}
_QK_NORM = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
_PRE_NORM = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
_POST_NORM = {
    "post_attention_layernorm": "post_attention_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_GATED = {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
_EXPERTS = {
    "mlp.gate": "ffn_gate_inp",
    "mlp.experts.{expert}.gate_proj": ("ffn_gate_exps", Layout.EXPERTS),
    "mlp.experts.{expert}.up_proj": ("ffn_up_exps", Layout.EXPERTS),
    "mlp.experts.{expert}.down_proj": ("ffn_down_exps", Layout.EXPERTS),
}
_GEMMA = {
    **_ATTENTION,
    "input_layernorm": "attn_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    **_POST_NORM,
    **_GATED,
}
_LAYERS = "model.layers"
_LLAMA = _rules(_LAYERS, _OUTER, _TURNED | _PRE_NORM | _GATED)
_QWEN2 = _rules(_LAYERS, _OUTER, _ATTENTION | _PRE_NORM | _GATED)

_ALL = (
    Architecture(
        name="llama",
        model_type="llama",
        model_class="LlamaForCausalLM",
        fixed=_SILU,
        rules=_LLAMA,
        rope_tensors=True,
    ),
    # Files say "llama" of Mistral too; it is known by its window, which llama.cpp does not compute.
    Architecture(
        name="llama",
        model_type="mistral",
        model_class="MistralForCausalLM",
        fixed=_SILU,
        rules=_LLAMA,
        rope_tensors=True,
        slides=False,
    ),
    Architecture(
        name="qwen2",
        model_type="qwen2",
        model_class="Qwen2ForCausalLM",
        fixed=_SILU | _NO_WINDOW,
        rules=_QWEN2,
    ),
    Architecture(
        name="qwen3",
        model_type="qwen3",
        model_class="Qwen3ForCausalLM",
        fixed=_SILU | _NO_WINDOW | {"attention_bias": False},
        rules=_rules(_LAYERS, _OUTER, _ATTENTION | _QK_NORM | _PRE_NORM | _GATED),
    ),
    Architecture(
        name="qwen3moe",
        model_type="qwen3_moe",
        model_class="Qwen3MoeForCausalLM",
        counts=_COUNTS | {"num_experts": "expert_count", "num_experts_per_tok": "expert_used_count"},
        fixed=_SILU
        | _NO_WINDOW
        | {"attention_bias": False, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []},
        rules=_rules(_LAYERS, _OUTER, _ATTENTION | _QK_NORM | _PRE_NORM | _EXPERTS),
    ),
    Architecture(
        name="gemma2",
        model_type="gemma2",
        model_class="Gemma2ForCausalLM",
        fixed=_GEMMA_ACT | {"tie_word_embeddings": True},
        rules=_shifted(_rules(_LAYERS, _HEADLESS, _GEMMA)),
    ),
    Architecture(
        name="gemma3",
        model_type="gemma3_text",
        model_class="Gemma3ForCausalLM",
        fixed=_GEMMA_ACT | {"attn_logit_softcapping": None},
        rules=_shifted(_rules(_LAYERS, _OUTER, _GEMMA | _QK_NORM)),
    ),
    Architecture(
        name="gpt2",
        model_type="gpt2",
        model_class="GPT2LMHeadModel",
        counts={
            "n_positions": "context_length",
            "n_embd": "embedding_length",
            "n_layer": "block_count",
            "n_inner": "feed_forward_length",
            "n_head": "attention.head_count",
        },
        numbers={"layer_norm_epsilon": "attention.layer_norm_epsilon"},
        fixed={
            "activation_function": "gelu_new",
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
        },
        rules=_rules(
            "transformer.h",
            {
                "transformer.wte": "token_embd",
                "transformer.wpe": "position_embd",
                "transformer.ln_f": "output_norm",
                "lm_head": "output",
            },
            {
                "ln_1": "attn_norm",
                "attn.c_attn": ("attn_qkv", Layout.TRANSPOSED),
                "attn.c_proj": ("attn_output", Layout.TRANSPOSED),
                "ln_2": "ffn_norm",
                "mlp.c_fc": ("ffn_up", Layout.TRANSPOSED),
                "mlp.c_proj": ("ffn_down", Layout.TRANSPOSED),
            },
        ),
    ),
    Architecture(
        name="gptneox",
        model_type="gpt_neox",
        model_class="GPTNeoXForCausalLM",
        numbers={"layer_norm_eps": "attention.layer_norm_epsilon"},
        fixed={"hidden_act": "gelu", "attention_bias": True},
        rules=_rules(
            "gpt_neox.layers",
            {
                "gpt_neox.embed_in": "token_embd",
                "gpt_neox.final_layer_norm": "output_norm",
                "embed_out": "output",
            },
            {
                **_PRE_NORM,
                "attention.query_key_value": ("attn_qkv", Layout.QKV_BY_HEAD),
                "attention.dense": "attn_output",
                "mlp.dense_h_to_4h": "ffn_up",
                "mlp.dense_4h_to_h": "ffn_down",
            },
        ),
        own_head=True,
    ),
    Architecture(
        name="olmo2",
        model_type="olmo2",
        model_class="Olmo2ForCausalLM",
        fixed=_SILU | {"attention_bias": False},
        rules=_rules(_LAYERS, _OUTER, _ATTENTION | _QK_NORM | _POST_NORM | _GATED),
        own_head=True,
    ),
    Architecture(
        name="phi3",
        model_type="phi3",
        model_class="Phi3ForCausalLM",
        fixed=_SILU,
        rules=_rules(
            _LAYERS,
            _OUTER,
            {
                "self_attn.qkv_proj": "attn_qkv",
                "self_attn.o_proj": "attn_output",
                **_PRE_NORM,
                "mlp.gate_up_proj": "ffn_up",
                "mlp.down_proj": "ffn_down",
            },
        ),
        rope_tensors=True,
        slides=False,
    ),
    Architecture(
        name="granite",
        model_type="granite",
        model_class="GraniteForCausalLM",
        fixed=_SILU,
        rules=_LLAMA,
        rope_tensors=True,
    ),
)
# "llama" reads as model_type llama until a window says otherwise (gguf_config.py).
_BY_NAME = {architecture.name: architecture for architecture in reversed(_ALL)}
_BY_MODEL_TYPE = {architecture.model_type: architecture for architecture in _ALL}


def architecture_named(name: Any, where: str) -> Architecture:
    """The architecture that a file's `general.architecture` names."""
    if not isinstance(name, str) or name not in _BY_NAME:
        raise OwnlmError(
            f"{where} is of architecture {name!r}, which ownlm does not read; it reads: {_known(_BY_NAME)}"
        )
    return _BY_NAME[name]


def architecture_for(model_type: Any) -> Architecture:
    """The architecture under which a model of `model_type` is written."""
    if not isinstance(model_type, str) or model_type not in _BY_MODEL_TYPE:
        raise OwnlmError(
            f"a model of model_type {model_type!r} cannot be written as GGUF (only {_known(_BY_MODEL_TYPE)}); "
            "write a folder instead"
        )
    return _BY_MODEL_TYPE[model_type]


def _known(table: Mapping[str, Architecture]) -> str:
    return ", ".join(sorted(table))
