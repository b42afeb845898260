"""A GGUF file's metadata as config.json's fields.

In:  GgufFile. Out: the fields of its model_type, complete.

What an architecture adds to its table stands here in one function each.
"""

from collections.abc import Callable, Mapping
from struct import unpack
from typing import Any

import numpy as np

from ownlm.artefact.gguf_header import GgufFile
from ownlm.errors import OwnlmError
from ownlm.model.formats.gguf_architectures import Architecture, architecture_for, architecture_named
from ownlm.model.formats.gguf_keys import Keys
from ownlm.model.formats.gguf_layouts import Heads
from ownlm.model.formats.gguf_rope import read_rope_scaling

GRANITE = {
    "embedding_multiplier": ("embedding_scale", 1.0),
    "residual_multiplier": ("residual_scale", 1.0),
    "logits_scaling": ("logit_scale", 1.0),
}
# Every second and every sixth layer looks at all tokens, and llama.cpp's own defaults of Gemma 2.
GEMMA_PATTERN = {"gemma2": 2, "gemma3": 6}
GEMMA2_CAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
# Layers of the 27B models, whose scores alone are scaled by hidden_size / heads.
GEMMA_27B = {"gemma2": 46, "gemma3": 62}
LOCAL_THETA = 10_000.0
MOST_EXPERTS = 1 << 12
EMBEDDING, HEAD = "token_embd.weight", "output.weight"
_FIRST = 4096


def read_architecture(file: GgufFile) -> Architecture:
    architecture = architecture_named(file.metadata.get("general.architecture"), str(file.path))
    parts = file.metadata.get("split.count", 1)
    if parts not in (0, 1):
        raise OwnlmError(f"{file.path} is one of {parts} parts; join them by llama.cpp's `llama-gguf-split --merge`")
    keys = Keys(file.path, file.metadata, architecture.name)
    if architecture.name == "llama" and keys.count("attention.sliding_window", 0, least=0):
        return architecture_for("mistral")
    return architecture


def read_fields(file: GgufFile) -> dict[str, Any]:
    """config.json's fields."""
    architecture = read_architecture(file)
    keys = Keys(file.path, file.metadata, architecture.name)
    if EMBEDDING not in file.tensors:
        keys.damaged(f"it lacks the tensor {EMBEDDING}")
    fields: dict[str, Any] = {
        "architectures": [architecture.model_class],
        "model_type": architecture.model_type,
        "vocab_size": file.tensors[EMBEDDING].shape[0],
        **{field: keys.count(key) for field, key in architecture.counts.items()},
        **{field: keys.number(key) for field, key in architecture.numbers.items()},
        "tie_word_embeddings": is_tied(file, architecture),
        **architecture.fixed,
        **_read_special_ids(file.metadata),
        "torch_dtype": "float32",
        "dtype": "float32",
    }
    layers = fields[_layers_field(architecture)]
    if layers > len(file.tensors):
        keys.damaged(f"it claims {layers} layers, and has {len(file.tensors)} tensors")
    if architecture.name != "qwen3moe" and keys.count("expert_count", 0, least=0):
        raise OwnlmError(
            f"{file.path} is a {architecture.name} of experts, which ownlm does not compute; take another model"
        )
    _MORE.get(architecture.name, _read_attention)(fields, keys, file)
    return fields


def is_tied(file: GgufFile, architecture: Architecture) -> bool:
    """Is the head the embedding? Where llama.cpp wants a head in any case, it may be the embedding a second time."""
    head = file.tensors.get(HEAD)
    if head is None or not architecture.own_head:
        return head is None
    embedding = file.tensors[EMBEDDING]
    if (head.kind, head.shape) != (embedding.kind, embedding.shape):
        return False
    one, other = (np.frombuffer(file.stored(tensor), np.uint8) for tensor in (head, embedding))
    # Two matrices differ in their first numbers; only a copy is read to its end.
    return np.array_equal(one[:_FIRST], other[:_FIRST]) and np.array_equal(one, other)


def _layers_field(architecture: Architecture) -> str:
    return next(field for field, key in architecture.counts.items() if key == "block_count")


def _read_special_ids(metadata: Mapping[str, Any]) -> dict[str, Any]:
    names = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}
    found = {field: metadata.get(f"tokenizer.ggml.{name}_token_id") for field, name in names.items()}
    return {field: value if type(value) is int else None for field, value in found.items()}


def heads_of(fields: Mapping[str, Any]) -> Heads:
    queries = fields["n_head"] if fields["model_type"] == "gpt2" else fields["num_attention_heads"]
    keys = fields.get("num_key_value_heads")
    return Heads(queries=queries, keys=queries if keys is None else keys)


def _read_attention(fields: dict[str, Any], keys: Keys, file: GgufFile) -> None:
    """Key heads, their size and RoPE, which most architectures say alike."""
    heads, hidden = fields["num_attention_heads"], fields["hidden_size"]
    fields["num_key_value_heads"] = keys.count("attention.head_count_kv", heads)
    if not keys.has("attention.key_length") and hidden % heads:
        keys.damaged(f"its width {hidden} is no multiple of its {heads} heads")
    fields["head_dim"] = keys.count("attention.key_length", max(1, hidden // heads))
    if keys.count("attention.value_length", fields["head_dim"]) != fields["head_dim"]:
        raise OwnlmError(
            f"{file.path} has values of another size than keys, which ownlm does not compute; take another model"
        )
    _read_rope(fields, keys, file)


def _read_rope(fields: dict[str, Any], keys: Keys, file: GgufFile, theta: float = 10_000.0) -> None:
    head_dim = fields.get("head_dim") or fields["hidden_size"] // fields["num_attention_heads"]
    turned = keys.count("rope.dimension_count", head_dim)
    if turned > head_dim or turned % 2:
        keys.damaged(f"of its heads' {head_dim} channels {turned} turn")
    theta = keys.number("rope.freq_base", theta)
    scaling = read_rope_scaling(keys, lambda name: _float32_table(file, name), turned=turned, theta=theta)
    section: dict[str, Any] = {**(scaling or {"rope_type": "default"}), "rope_theta": theta}
    if turned != head_dim:
        section["partial_rotary_factor"] = turned / head_dim
    fields["rope_theta"], fields["rope_parameters"] = theta, section
    if scaling is not None:
        fields["rope_scaling"] = scaling


def _float32_table(file: GgufFile, name: str) -> list[float] | None:
    tensor = file.tensors.get(name)
    if tensor is None:
        return None
    if tensor.kind.name != "F32" or tensor.size > 1 << 20:
        raise OwnlmError(
            f"{file.path} keeps {name} as {tensor.kind.name} of {tensor.size} bytes, not as a small F32; "
            "convert it again"
        )
    return list(unpack(f"<{tensor.size // 4}f", file.stored(tensor)))


def _read_llama(fields: dict[str, Any], keys: Keys, file: GgufFile) -> None:
    _read_attention(fields, keys, file)
    window = keys.count("attention.sliding_window", 0, least=0)
    if fields["model_type"] == "mistral":
        fields["sliding_window"] = window
        return
    fields["attention_bias"] = "blk.0.attn_q.bias" in file.tensors
    fields["mlp_bias"] = "blk.0.ffn_up.bias" in file.tensors


def _read_granite(fields: dict[str, Any], keys: Keys, file: GgufFile) -> None:
    _read_llama(fields, keys, file)
    fields |= {field: keys.number(key, default) for field, (key, default) in GRANITE.items()}
    # llama.cpp takes 0, its default, for the usual scale.
    scale = keys.number("attention.scale", 0.0)
    fields["attention_multiplier"] = scale or fields["head_dim"] ** -0.5


def _read_qwen3moe(fields: dict[str, Any], keys: Keys, file: GgufFile) -> None:
    _read_attention(fields, keys, file)
    if fields["num_experts"] > MOST_EXPERTS:
        keys.damaged(f"it claims {fields['num_experts']} experts, more than {MOST_EXPERTS}")
    shared = fields["intermediate_size"] // fields["num_experts_per_tok"]
    fields["moe_intermediate_size"] = keys.count("expert_feed_forward_length", max(1, shared))


def _read_gemma(fields: dict[str, Any], keys: Keys, file: GgufFile) -> None:
    _read_attention(fields, keys, file)
    layers, name = fields["num_hidden_layers"], keys.architecture
    window = keys.count("attention.sliding_window", 4096 if name == "gemma2" else 0, least=0)
    sliding = read_sliding(keys, layers) if window else [False] * layers
    fields["sliding_window"] = window or None
    fields["layer_types"] = ["sliding_attention" if slides else "full_attention" for slides in sliding]
    fields["query_pre_attn_scalar"] = gemma_scalar(name, fields)
    for field, default in GEMMA2_CAPS.items():
        value = keys.number(field, default if name == "gemma2" else 0.0)
        fields[field] = value or None
    if name == "gemma3":
        # Two thetas: one for the layers that see everything, one for those that slide.
        local = keys.number("rope.freq_base_swa", LOCAL_THETA)
        fields["rope_local_base_freq"] = local
        fields["rope_parameters"] = {
            "full_attention": fields["rope_parameters"],
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
        }


def read_sliding(keys: Keys, layers: int) -> list[bool]:
    """Which layers slide: said one by one, or every one but each nth."""
    given = keys.value("attention.sliding_window_pattern")
    if isinstance(given, list):
        if len(given) != layers:
            keys.damaged(f"it says of {len(given)} layers whether they slide, and has {layers}")
        return [bool(slides) for slides in given]
    every = keys.count("attention.sliding_window_pattern", GEMMA_PATTERN[keys.architecture], least=0)
    return [every == 0 or layer % every < every - 1 for layer in range(layers)]


def gemma_scalar(name: str, fields: Mapping[str, Any]) -> int:
    """By whose root llama.cpp divides the scores; GGUF has no key for it."""
    if fields["num_hidden_layers"] == GEMMA_27B[name]:
        return int(fields["hidden_size"] // fields["num_attention_heads"])
    return int(fields["head_dim"])


def _read_gpt2(fields: dict[str, Any], keys: Keys, file: GgufFile) -> None:
    if keys.count("attention.head_count_kv", fields["n_head"]) != fields["n_head"]:
        raise OwnlmError(f"{file.path} shares keys between heads, which gpt2 does not; convert it again")
    fields["n_ctx"] = fields["n_positions"]


def _read_gptneox(fields: dict[str, Any], keys: Keys, file: GgufFile) -> None:
    fields["use_parallel_residual"] = keys.flag("use_parallel_residual", True)
    _read_rope(fields, keys, file)
    section = fields["rope_parameters"]
    section.setdefault("partial_rotary_factor", 1.0)
    fields["rotary_pct"], fields["rotary_emb_base"] = section["partial_rotary_factor"], fields["rope_theta"]


def _read_olmo2(fields: dict[str, Any], keys: Keys, file: GgufFile) -> None:
    if keys.count("attention.sliding_window", 0, least=0):
        raise OwnlmError(
            f"{file.path} is an OLMo 3, whose sliding layers ownlm does not compute yet; take another model"
        )
    _read_attention(fields, keys, file)


def _read_phi3(fields: dict[str, Any], keys: Keys, file: GgufFile) -> None:
    _read_attention(fields, keys, file)
    fields["sliding_window"] = keys.count("attention.sliding_window", 0, least=0) or None
    original = keys.count("rope.scaling.original_context_length", fields["max_position_embeddings"])
    fields["original_max_position_embeddings"] = original
    fields["partial_rotary_factor"] = fields["rope_parameters"].get("partial_rotary_factor", 1.0)


_MORE: dict[str, Callable[[dict[str, Any], Keys, GgufFile], None]] = {
    "llama": _read_llama,
    "granite": _read_granite,
    "qwen3moe": _read_qwen3moe,
    "gemma2": _read_gemma,
    "gemma3": _read_gemma,
    "gpt2": _read_gpt2,
    "gptneox": _read_gptneox,
    "olmo2": _read_olmo2,
    "phi3": _read_phi3,
}
