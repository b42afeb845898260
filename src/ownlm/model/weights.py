"""A decoder's own parameters in one safetensors file, as training keeps them; no config goes with them."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from ownlm.errors import DamagedError
from ownlm.model.decoder import Decoder
from ownlm.model.formats.safetensors_file import save_tensors


def save_weights(path: Path, model: Decoder, dtype: torch.dtype | None = None) -> None:
    """Weights alone; a tied head is the embedding and is not written twice."""
    tensors = {
        name: tensor.detach().to(device="cpu", dtype=dtype or tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
        if not (model.config.tie_word_embeddings and name == "lm_head.weight")
    }
    save_tensors(path, tensors)


def load_weights(path: Path, model: Decoder) -> None:
    """Set every parameter of `model` from `path`; names and shapes must fit exactly."""
    tensors = load_file(path)
    if model.config.tie_word_embeddings and "model.embed_tokens.weight" in tensors:
        tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"])
    expected = model.state_dict()
    wrong = sorted(tensors.keys() ^ expected.keys()) or sorted(
        name for name in expected if tensors[name].shape != expected[name].shape
    )
    if wrong:
        raise DamagedError(f"{path} does not fit its config.json: {', '.join(wrong[:3])}; restore both files")
    model.load_state_dict(tensors)
