"""The parameters of what is trained, a decoder or an adapter, in one safetensors file; no config goes with them."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from ownlm.errors import DamagedError
from ownlm.model.decoder import Decoder
from ownlm.model.formats.safetensors_file import save_tensors


def save_weights(path: Path, model: nn.Module, dtype: torch.dtype | None = None) -> None:
    """Weights alone; a tied head is the embedding and is not written twice."""
    tensors = {
        name: tensor.detach().to(device="cpu", dtype=dtype or tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
        if not (_is_tied(model) and name == "lm_head.weight")
    }
    save_tensors(path, tensors)


def load_weights(path: Path, model: nn.Module) -> None:
    """Set every parameter of `model` from `path`; names and shapes must fit exactly."""
    tensors = load_file(path)
    if _is_tied(model) and "model.embed_tokens.weight" in tensors:
        tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"])
    expected = model.state_dict()
    wrong = sorted(tensors.keys() ^ expected.keys()) or sorted(
        name for name in expected if tensors[name].shape != expected[name].shape
    )
    if wrong:
        raise DamagedError(f"{path} does not fit its config.json: {', '.join(wrong[:3])}; restore both files")
    model.load_state_dict(tensors)


def _is_tied(model: nn.Module) -> bool:
    return isinstance(model, Decoder) and model.config.tie_word_embeddings
