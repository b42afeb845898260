"""A Checkpoint as a GGUF file that llama.cpp opens.

     fields ─▶ metadata ─┐
     tokenizer.* ────────┼─▶ header ─▶ tensor by tensor: read, laid out, quantised, written ─▶ fsync, rename
     tensors ─▶ plan ────┘

In:  the checkpoint, a tokenizer's metadata, the wanted type. Out: the file, whole or not there. One tensor is in memory
at a time. Which type a tensor gets, as llama.cpp's own quantiser decides it:
- vectors, norms, routers and learned positions stay F32;
- the embedding and the head, on which quality hangs most, get Q8_0 where the rest gets four or five bits;
- a matrix whose rows are no whole blocks gets F16.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from shutil import disk_usage
from typing import Any

import numpy as np

from ownlm.artefact import disk_errors
from ownlm.artefact.gguf_types import KINDS, Kind
from ownlm.artefact.write import fsync_file, fsync_folder
from ownlm.errors import OwnlmError
from ownlm.model.checkpoint import Checkpoint, StoredTensor
from ownlm.model.formats.gguf_architectures import architecture_for
from ownlm.model.formats.gguf_bits import Bytes, Floats
from ownlm.model.formats.gguf_config import heads_of
from ownlm.model.formats.gguf_layouts import Heads, Layout, to_gguf
from ownlm.model.formats.gguf_metadata import write_metadata
from ownlm.model.formats.gguf_names import Place, places_in_gguf
from ownlm.model.formats.gguf_quants import quantize
from ownlm.model.formats.gguf_vocabulary_keys import vocabulary_keys

# What may be asked for, and llama.cpp's number for a file that is mostly so.
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "BF16": 32}
_KINDS = {kind.name: kind for kind in KINDS.values()}
_SMALL = ("Q4_0", "Q4_1", "Q5_0", "Q5_1")
_ALWAYS_F32 = ("ffn_gate_inp.weight", "position_embd.weight")
_ENDS = ("token_embd.weight", "output.weight")
_ALIGNMENT = 32
_QUANTIZATION_VERSION = 2


def write_gguf(
    path: Path,
    checkpoint: Checkpoint,
    *,
    quantization: str,
    tokenizer_metadata: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> None:
    """Write `path`, which must not be there yet. `name` becomes general.name.

    `tokenizer_metadata` holds keys that begin with `tokenizer.`; without it the file has no tokenizer.
    """
    if quantization not in FILE_TYPES:
        raise OwnlmError(f"{quantization!r} is no type to write GGUF files in; choose from {', '.join(FILE_TYPES)}")
    if path.exists():
        raise OwnlmError(f"{path} is already there; name another file, or remove it first")
    fields = checkpoint.fields
    architecture = architecture_for(fields.get("model_type"))
    keys, tables = write_metadata(fields, architecture)
    metadata = {
        "general.type": "model",
        "general.name": name or path.stem,
        "general.file_type": FILE_TYPES[quantization],
        "general.quantization_version": _QUANTIZATION_VERSION,
        **keys,
        **vocabulary_keys(fields, tokenizer_metadata or {}),
    }
    entries = [_Table(name=table, numbers=np.array(numbers, np.float32)) for table, numbers in tables.items()]
    planned = [
        _Matrix.plan(place, heads_of(fields), quantization) for place in places_in_gguf(checkpoint, architecture)
    ]
    _write(path, architecture.name, metadata, [*entries, *planned])


@dataclass(frozen=True, kw_only=True)
class _Table:
    """RoPE factors."""

    name: str
    numbers: Floats

    @property
    def shape(self) -> tuple[int, ...]:
        return self.numbers.shape

    @property
    def kind(self) -> Kind:
        return _KINDS["F32"]

    def encoded(self) -> Bytes:
        return self.numbers.view(np.uint8)


@dataclass(frozen=True, kw_only=True)
class _Matrix:
    """A tensor to come: read when its turn is there."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    layout: Layout
    heads: Heads
    parts: tuple[StoredTensor, ...]

    @classmethod
    def plan(cls, place: Place, heads: Heads, quantization: str) -> "_Matrix":
        kind = _KINDS[_kind_name(place.name, place.shape, quantization)]
        return cls(name=place.name, shape=place.shape, kind=kind, layout=place.layout, heads=heads, parts=place.parts)

    def encoded(self) -> Bytes:
        if self.layout is Layout.EXPERTS:
            # One expert after another: all of them as float32 would be the largest thing in memory by far.
            return np.stack([quantize(_numbers(part), self.kind.name, self.name) for part in self.parts])
        return quantize(to_gguf(_numbers(self.parts[0]), self.layout, self.heads), self.kind.name, self.name)


def _numbers(stored: StoredTensor) -> Floats:
    numbers: Floats = stored.read().detach().cpu().float().contiguous().numpy()
    if numbers.shape != stored.shape:
        raise OwnlmError(f"a tensor is of shape {numbers.shape}, and its file says {stored.shape}; restore the model")
    return numbers


def _kind_name(name: str, shape: tuple[int, ...], quantization: str) -> str:
    if len(shape) == 1 or name.endswith(("_norm.weight", *_ALWAYS_F32)):
        return "F32"
    kind = "Q8_0" if name in _ENDS and quantization in _SMALL else quantization
    return kind if shape[-1] % _KINDS[kind].block == 0 else "F16"


def _write(path: Path, architecture: str, metadata: Mapping[str, Any], entries: list[_Table | _Matrix]) -> None:
    from gguf import GGMLQuantizationType

    needed = sum(_size(entry) for entry in entries)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        if disk_usage(path.parent).free < needed:
            raise OwnlmError(
                f"{path} needs {needed / 1e6:,.0f} MB, which its disk has not; free some or name another place"
            )
        writer = _writer(temporary, architecture)
        try:
            for key, value in metadata.items():
                _add(writer, key, value)
            for entry in entries:
                kind = GGMLQuantizationType[entry.kind.name]
                writer.add_tensor_info(entry.name, entry.shape, np.dtype(np.float32), _size(entry), kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for entry in entries:
                writer.write_tensor_data(entry.encoded().reshape(-1))
            writer.close()
            fsync_file(temporary)
            temporary.replace(path)
        finally:
            writer.close()
            temporary.unlink(missing_ok=True)
        fsync_folder(path.parent)


def _writer(path: Path, architecture: str) -> Any:
    from gguf import GGUFValueType, GGUFWriter

    class Writer(GGUFWriter):
        def _pack_val(self, val: Any, vtype: Any, add_vtype: bool, sub_type: Any = None) -> bytes:
            # The package refuses empty lists. llama.cpp reads them, and wants the merges of a BPE that has none.
            if vtype is GGUFValueType.ARRAY and len(val) == 0 and sub_type is not None:
                head = self._pack("I", vtype) if add_vtype else b""
                return bytes(head + self._pack("I", sub_type) + self._pack("Q", 0))
            return bytes(super()._pack_val(val, vtype, add_vtype, sub_type))

    return Writer(path, architecture)


def _size(entry: _Table | _Matrix) -> int:
    return prod(entry.shape) // entry.kind.block * entry.kind.bytes


def _add(writer: Any, key: str, value: Any) -> None:
    """With the types that llama.cpp expects: counts are UINT32, numbers FLOAT32, lists of integers INT32."""
    from gguf import GGUFValueType as Type

    if isinstance(value, list | tuple):
        inner = _scalar_type(value[0] if value else "")
        inner = Type.INT32 if inner is Type.UINT32 else inner
        writer.add_key_value(key, list(value), Type.ARRAY, sub_type=inner)
        return
    writer.add_key_value(key, value, _scalar_type(value))


def _scalar_type(value: Any) -> Any:
    from gguf import GGUFValueType as Type

    if isinstance(value, bool):
        return Type.BOOL
    if isinstance(value, int):
        return Type.UINT32 if value >= 0 else Type.INT32
    return Type.FLOAT32 if isinstance(value, float) else Type.STRING
