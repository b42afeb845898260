"""A tiny random model of every family as a Checkpoint, without a decoder: for what reads and writes files alone."""

import re
from typing import Any

import torch
from torch import Tensor

from ownlm.model.checkpoint import Checkpoint, StoredTensor

_ROPE = {"rope_theta": 10_000.0, "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}
_COMMON: dict[str, Any] = {
    "vocab_size": 96,
    "max_position_embeddings": 64,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
    "torch_dtype": "float32",
    "dtype": "float32",
    "num_key_value_heads": 2,
    "head_dim": 16,
    **_ROPE,
}
_LOCAL = {"rope_type": "default", "rope_theta": 10_000.0}
_FULL = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
_BIASES = {"attention_bias": False, "mlp_bias": False}
_NO_WINDOW = {"use_sliding_window": False}
_SLIDING, _FULLY = "sliding_attention", "full_attention"
_GEMMA = {
    "hidden_act": ...,
    "hidden_activation": "gelu_pytorch_tanh",
    "attention_bias": False,
    "tie_word_embeddings": True,
    "sliding_window": 16,
    "query_pre_attn_scalar": 16,
}
_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "gpt_neox": "GPTNeoXForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "granite": "GraniteForCausalLM",
}
# A field of `...` is one of the common that this family does not have.
_OWN: dict[str, dict[str, Any]] = {
    "llama": {**_BIASES, "tie_word_embeddings": True},
    "mistral": {"sliding_window": 24},
    "qwen2": _NO_WINDOW,
    "qwen3": {**_NO_WINDOW, "attention_bias": False, "head_dim": 32, "tie_word_embeddings": True},
    "qwen3_moe": {
        **_NO_WINDOW,
        "attention_bias": False,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    },
    "gemma2": {
        **_GEMMA,
        "layer_types": [_SLIDING, _FULLY, _SLIDING],
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    "gemma3_text": {
        **_GEMMA,
        "layer_types": [_SLIDING, _FULLY, _SLIDING],
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "rope_theta": 1e6,
        "rope_local_base_freq": 10_000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        "rope_parameters": {_FULLY: _FULL, _SLIDING: _LOCAL},
    },
    "gpt2": {
        **dict.fromkeys(_COMMON.keys() - {"vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"}, ...),
        "torch_dtype": "float32",
        "dtype": "float32",
        "tie_word_embeddings": True,
        "n_positions": 64,
        "n_ctx": 64,
        "n_embd": 64,
        "n_layer": 3,
        "n_inner": 96,
        "n_head": 4,
        "layer_norm_epsilon": 1e-5,
        "activation_function": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
    },
    "gpt_neox": {
        "hidden_act": "gelu",
        "attention_bias": True,
        "rms_norm_eps": ...,
        "num_key_value_heads": ...,
        "head_dim": ...,
        "layer_norm_eps": 1e-5,
        "use_parallel_residual": True,
        "rotary_pct": 0.25,
        "rotary_emb_base": 10_000.0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.25},
    },
    "olmo2": {"attention_bias": False},
    "phi3": {
        "sliding_window": None,
        "original_max_position_embeddings": 64,
        "partial_rotary_factor": 1.0,
        "tie_word_embeddings": True,
    },
    "granite": {
        **_BIASES,
        "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22,
        "logits_scaling": 8.0,
        "attention_multiplier": 0.125,
    },
}
MODEL_TYPES = tuple(_ARCHITECTURES)
_OUTER = {"model.embed_tokens.weight": (96, 64), "model.norm.weight": (64,), "lm_head.weight": (96, 64)}
_GATED = {"mlp.gate_proj.weight": (96, 64), "mlp.up_proj.weight": (96, 64), "mlp.down_proj.weight": (64, 96)}
_PRE = {"input_layernorm.weight": (64,), "post_attention_layernorm.weight": (64,)}
_POST = {"post_attention_layernorm.weight": (64,), "post_feedforward_layernorm.weight": (64,)}


def tiny_fields(model_type: str, **changes: Any) -> dict[str, Any]:
    named = {"architectures": [_ARCHITECTURES[model_type]], "model_type": model_type}
    fields = {**named, **_COMMON, **_OWN[model_type], **changes}
    return {name: value for name, value in fields.items() if value is not ...}


def tiny_shapes(fields: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes as Hugging Face's files have them; a tied head is not among them."""
    kind = fields["model_type"]
    outer, prefix, layer = _layout(kind, fields)
    shapes = dict(outer)
    for number in range(fields.get("n_layer", fields.get("num_hidden_layers", 0))):
        shapes |= {f"{prefix}.{number}.{name}": shape for name, shape in layer.items()}
    return {
        name: shape for name, shape in shapes.items() if name != "lm_head.weight" or not fields["tie_word_embeddings"]
    }


def _layout(kind: str, fields: dict[str, Any]) -> tuple[dict[str, Any], str, dict[str, Any]]:
    if kind == "gpt2":
        outer = {"wte.weight": (96, 64), "wpe.weight": (64, 64), "ln_f.weight": (64,), "ln_f.bias": (64,)}
        matrices = {"attn.c_attn": (64, 192), "attn.c_proj": (64, 64), "mlp.c_fc": (64, 96), "mlp.c_proj": (96, 64)}
        layer = {f"{name}.weight": shape for name, shape in matrices.items()}
        layer |= {f"{name}.bias": (shape[1],) for name, shape in matrices.items()}
        layer |= {f"ln_{number}.{what}": (64,) for number in (1, 2) for what in ("weight", "bias")}
        return {f"transformer.{name}": shape for name, shape in outer.items()}, "transformer.h", layer
    if kind == "gpt_neox":
        outer = {"gpt_neox.embed_in.weight": (96, 64), "embed_out.weight": (96, 64)}
        outer |= {f"gpt_neox.final_layer_norm.{what}": (64,) for what in ("weight", "bias")}
        matrices = {"attention.query_key_value": (192, 64), "attention.dense": (64, 64)}
        matrices |= {"mlp.dense_h_to_4h": (96, 64), "mlp.dense_4h_to_h": (64, 96)}
        layer = {f"{name}.weight": shape for name, shape in matrices.items()}
        layer |= {f"{name}.bias": shape[:1] for name, shape in matrices.items()}
        layer |= {re.sub("weight$", what, name): (64,) for name in _PRE for what in ("weight", "bias")}
        return outer, "gpt_neox.layers", layer
    queries, keys = 4 * fields["head_dim"], 2 * fields["head_dim"]
    layer = {
        "self_attn.q_proj.weight": (queries, 64),
        "self_attn.k_proj.weight": (keys, 64),
        "self_attn.v_proj.weight": (keys, 64),
        "self_attn.o_proj.weight": (64, queries),
        **_GATED,
        **_PRE,
    }
    if kind == "qwen2":
        layer |= {f"self_attn.{name}_proj.bias": (rows,) for name, rows in (("q", queries), ("k", keys), ("v", keys))}
    if kind in ("qwen3", "qwen3_moe", "gemma3_text"):
        layer |= {f"self_attn.{name}_norm.weight": (fields["head_dim"],) for name in "qk"}
    if kind == "olmo2":
        layer |= {"self_attn.q_norm.weight": (queries,), "self_attn.k_norm.weight": (keys,), **_POST}
        del layer["input_layernorm.weight"]
    if kind.startswith("gemma"):
        layer |= {"pre_feedforward_layernorm.weight": (64,), **_POST}
    if kind == "phi3":
        layer = {name: shape for name, shape in layer.items() if not re.search(r"[qkv]_proj|gate_proj|up_proj", name)}
        layer |= {"self_attn.qkv_proj.weight": (queries + 2 * keys, 64), "mlp.gate_up_proj.weight": (192, 64)}
    if kind == "qwen3_moe":
        layer = {name: shape for name, shape in layer.items() if name not in _GATED} | {"mlp.gate.weight": (4, 64)}
        for expert in range(4):
            layer |= {f"mlp.experts.{expert}.{name}_proj.weight": (32, 64) for name in ("gate", "up")}
            layer[f"mlp.experts.{expert}.down_proj.weight"] = (64, 32)
    return _OUTER, "model.layers", layer


def tiny_checkpoint(model_type: str, **changes: Any) -> Checkpoint:
    fields = tiny_fields(model_type, **changes)
    generator = torch.Generator().manual_seed(7)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in tiny_shapes(fields).items()}
    return checkpoint_of(fields, tensors)


def checkpoint_of(fields: dict[str, Any], tensors: dict[str, Tensor]) -> Checkpoint:
    """Tensors in memory as if they lay in a file."""
    stored = {name: _stored(tensor) for name, tensor in tensors.items()}
    return Checkpoint(fields=fields, tensors=stored)


def _stored(tensor: Tensor) -> StoredTensor:
    return StoredTensor(shape=tuple(tensor.shape), stored_as="F32", read=lambda: tensor)
