"""A Hugging Face model folder: config.json, generation_config.json, and the weights in one file or several.

    model.safetensors                       or, when that were too large,
    model-00001-of-00003.safetensors ...    with model.safetensors.index.json: {"weight_map": {tensor: file}}

transformers, vLLM and SGLang open what is written here. The tokenizer's files are the tokenizer's to write.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ownlm.artefact import read_json, write_atomically
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.checkpoint import Checkpoint, StoredTensor
from ownlm.model.checks import shown
from ownlm.model.formats.safetensors_file import BYTES, open_tensors, save_tensors

CONFIG, GENERATION_CONFIG, WEIGHTS = "config.json", "generation_config.json", "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 4_000_000_000
_FIX = "restore it"
_IDS = ("bos_token_id", "eos_token_id")
_DTYPES = ("torch_dtype", "dtype")


def read_checkpoint(folder: Path) -> Checkpoint:
    """The model in `folder`; headers are read and checked, a tensor when it is asked for."""
    generation = folder / GENERATION_CONFIG
    return Checkpoint(
        fields=read_config(folder),
        tensors=_tensors(folder),
        generation=_checked(generation, read_json(generation, fix=_FIX)) if generation.exists() else {},
    )


def read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.exists():
        raise OwnlmError(f"{folder} holds no {CONFIG}, so it is no model folder; name a folder that a run wrote")
    return _checked(path, read_json(path, fix=_FIX))


def _checked(path: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields, after those that no family reads: a number format and the ids of special tokens."""
    for name in _DTYPES:
        if not isinstance(fields.get(name), str | None):
            raise DamagedError(f"{path}: {name} must be a name such as float32, got {shown(fields[name])}; {_FIX}")
    for name in _IDS:
        given = fields.get(name)
        listed = given if isinstance(given, list) else [] if given is None else [given]
        if any(type(id) is not int or id < 0 for id in listed):
            raise DamagedError(
                f"{path}: {name} must be the id of a token, or a list of ids, got {shown(given)}; {_FIX}"
            )
    return fields


def _tensors(folder: Path) -> dict[str, StoredTensor]:
    if (folder / WEIGHTS).exists():
        return open_tensors(folder / WEIGHTS)
    if not (folder / INDEX).exists():
        raise OwnlmError(
            f"{folder} has no {WEIGHTS}; pickled weights (.bin, .pt) can run code and are never opened: "
            "convert them with safetensors first, or take the model's safetensors files"
        )
    places = _read_index(folder / INDEX)
    tensors: dict[str, StoredTensor] = {}
    for name in sorted(set(places.values())):
        path = folder / name
        if not path.is_file():
            raise DamagedError(f"{folder} lacks {name}, which its {INDEX} names; fetch the rest of the model")
        held = open_tensors(path)
        named = {tensor for tensor, place in places.items() if place == name}
        differing = sorted(held.keys() ^ named)
        if differing:
            raise DamagedError(f"{path} and {INDEX} disagree about {', '.join(differing[:3])}; restore both files")
        tensors.update(held)
    return tensors


def _read_index(path: Path) -> dict[str, str]:
    places = read_json(path, fix=_FIX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise DamagedError(f"{path} has no weight_map; restore it")
    for name in places.values():
        # A file beside the index and nothing else: an index must not lead to other files of the machine.
        plain = isinstance(name, str) and name == Path(name).name and not set("\\:\0") & set(name)
        if not plain or not name.endswith(".safetensors"):
            raise DamagedError(f"{path} names {shown(name)}, which is no safetensors file beside it; restore it")
    return places


def write_checkpoint(folder: Path, checkpoint: Checkpoint, *, shard_bytes: int = SHARD_BYTES) -> list[str]:
    """Write the model into `folder`, each file whole; returns their names. Weights past `shard_bytes` are sharded.

    One shard at a time is in memory, in whatever type its tensors are read.
    """
    write_atomically(folder / CONFIG, json.dumps(dict(checkpoint.fields), indent=2) + "\n")
    write_atomically(folder / GENERATION_CONFIG, json.dumps(dict(checkpoint.generation), indent=2) + "\n")
    shards = _shards(checkpoint.tensors, shard_bytes)
    if len(shards) == 1:
        _write_tensors(folder / WEIGHTS, checkpoint.tensors)
        return [CONFIG, GENERATION_CONFIG, WEIGHTS]
    places: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_tensors(folder / file, {name: checkpoint.tensors[name] for name in names})
        places.update(dict.fromkeys(names, file))
    index = {"metadata": {"total_size": sum(map(_size, checkpoint.tensors.values()))}, "weight_map": places}
    write_atomically(folder / INDEX, json.dumps(index, indent=2) + "\n")
    return [CONFIG, GENERATION_CONFIG, INDEX, *sorted(set(places.values()))]


def _shards(tensors: Mapping[str, StoredTensor], shard_bytes: int) -> list[list[str]]:
    """Names of each shard's tensors, in order; a tensor larger than a shard has one for itself."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, tensor in tensors.items():
        if shards[-1] and filled + _size(tensor) > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += _size(tensor)
    return shards


def _size(tensor: StoredTensor) -> int:
    """Bytes as it will be written: what is stored in blocks is read as float32."""
    return math.prod(tensor.shape) * BYTES.get(tensor.stored_as, 4)


def _write_tensors(path: Path, tensors: Mapping[str, StoredTensor]) -> None:
    save_tensors(path, {name: tensor.read().cpu().contiguous() for name, tensor in tensors.items()})
