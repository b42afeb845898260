"""A Hugging Face model folder: config.json, generation_config.json, model.safetensors.

transformers, vLLM and SGLang open what is written here. The tokenizer's files are the tokenizer's to write.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ownlm.artefact import disk_errors, write_atomically
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.config import DecoderConfig
from ownlm.model.decoder import Decoder
from ownlm.model.families import family_of

CONFIG, GENERATION_CONFIG, WEIGHTS = "config.json", "generation_config.json", "model.safetensors"
MODEL_FILES = (CONFIG, GENERATION_CONFIG, WEIGHTS)


def write_decoder(folder: Path, model: Decoder, *, eos_ids: list[int], pad_id: int | None) -> None:
    """Write the model's files into `folder`, each whole. `eos_ids` end an answer; there is no BOS."""
    family = family_of({"model_type": "qwen3"})
    ends = {"bos_token_id": None, "eos_token_id": eos_ids, "pad_token_id": pad_id}
    config = {**family.write_config(model.config), **ends, "eos_token_id": eos_ids[0]}
    write_atomically(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    write_atomically(folder / GENERATION_CONFIG, json.dumps(ends, indent=2) + "\n")
    save_weights(folder / WEIGHTS, model)


def save_weights(path: Path, model: Decoder, dtype: torch.dtype | None = None) -> None:
    """Weights alone; a tied head is the embedding and is not written twice."""
    tensors = {
        name: tensor.detach().to(device="cpu", dtype=dtype or tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
        if not (model.config.tie_word_embeddings and name == "lm_head.weight")
    }
    save_tensors(path, tensors)


def save_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A safetensors file, whole or not there; a full disk is one line."""
    temporary = path.with_name(f".{path.name}.tmp")
    with disk_errors(path):
        try:
            save_file(tensors, temporary, metadata={"format": "pt"})
            # The library makes its files unreadable to others: give this one the permissions of any new file.
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
            temporary.replace(path)
        except SafetensorError as error:
            raise OwnlmError(f"cannot write {path} ({error}); free some space or name another --out") from None
        finally:
            temporary.unlink(missing_ok=True)


def read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise OwnlmError(f"{folder} holds no {CONFIG}, so it is no model folder; name a folder that a run wrote")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedError(f"{path} is not JSON ({error}); restore it") from None
    if not isinstance(fields, dict):
        raise DamagedError(f"{path} holds no object; restore it")
    return fields


def read_decoder(folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Decoder:
    """The decoder in `folder`, in evaluation mode. Every tensor of the file is used and every parameter set."""
    fields = read_config(folder)
    config: DecoderConfig = family_of(fields).read_config(fields)
    path = folder / WEIGHTS
    if not path.is_file():
        raise OwnlmError(
            f"{folder} has no {WEIGHTS}; pickled weights (.bin, .pt) can run code and are never opened: "
            "convert them with safetensors first"
        )
    model = Decoder(config)
    try:
        load_weights(path, model)
    except (SafetensorError, OSError) as error:
        raise DamagedError(f"{path} is damaged ({error}); restore it or train again") from None
    return model.to(device=device, dtype=dtype).eval()


def load_weights(path: Path, model: Decoder) -> None:
    """Set every parameter of `model` from `path`; names and shapes must fit exactly."""
    tensors = load_file(path)
    if model.config.tie_word_embeddings:
        tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"])
    expected = model.state_dict()
    wrong = sorted(tensors.keys() ^ expected.keys()) or sorted(
        name for name in expected if tensors[name].shape != expected[name].shape
    )
    if wrong:
        raise DamagedError(f"{path} does not fit its config.json: {', '.join(wrong[:3])}; restore both files")
    model.load_state_dict(tensors)
