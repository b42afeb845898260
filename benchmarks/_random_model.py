"""A GGUF file with random weights: what a benchmark measures where no real model is at hand."""

from pathlib import Path
from typing import Any

import torch

from ownlm.model.checkpoint import Checkpoint, StoredTensor
from ownlm.model.families import family_of
from ownlm.model.formats.gguf_write import write_gguf
from ownlm.tokenizer.reference import byte_characters


def random_file(path: Path, *, small: bool) -> Path:
    """A llama of SmolLM2-135M's shape, Q4_1 with an embedding of Q8_0 as that one is."""
    layers, width, inner, rows = (2, 64, 128, 256) if small else (30, 576, 1536, 49152)
    fields: dict[str, Any] = {
        "model_type": "llama",
        "vocab_size": rows,
        "max_position_embeddings": 8192,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "num_attention_heads": width // 64,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
    }
    shapes = {"model.embed_tokens.weight": (rows, width), "model.norm.weight": (width,)}
    for layer in range(layers):
        stem = f"model.layers.{layer}"
        shapes |= {f"{stem}.self_attn.{name}_proj.weight": (width, width) for name in "qkvo"}
        shapes |= {f"{stem}.mlp.{name}_proj.weight": (inner, width) for name in ("gate", "up")}
        shapes[f"{stem}.mlp.down_proj.weight"] = (width, inner)
        shapes |= {f"{stem}.{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
    family = family_of(fields)
    fields = family.write_config(family.read_config(fields))
    tensors = {name: _random(shape) for name, shape in shapes.items()}
    names = [*byte_characters(), *(f"token {number}" for number in range(256, rows))]
    tokens = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": names, "tokenizer.ggml.merges": []}
    write_gguf(path, Checkpoint(fields=fields, tensors=tensors), quantization="Q4_1", tokenizer_metadata=tokens)
    return path


def _random(shape: tuple[int, ...]) -> StoredTensor:
    return StoredTensor(shape=shape, stored_as="F32", read=lambda: torch.randn(shape))
