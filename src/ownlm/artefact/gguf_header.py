"""A GGUF file's header, read with suspicion: its metadata, and where each tensor lies.

In:  a path. Out: GgufFile, a memory map with metadata by key and tensors by name; no tensor has been read.

     magic · version · counts │ key, type, value ... │ name, shape, type, offset ... │ padding │ tensors

Everything is checked before it is believed: a length against the file, an offset against its neighbours. So a
hostile file costs a line, not the memory that it claims. It lies here, and imports no torch, so that a command can
look at a file before it spends a second on that. The gguf package's own reader trusts its input and goes through
numpy for every string: 5.9 s of processor time for SmolLM2's header, 26 s and 730 MB for Gemma 3's, against 0.1
and 0.3 s here.

Source: the format's specification (ggml's docs/gguf.md), versions 2 and 3.
"""

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from struct import Struct, unpack_from
from struct import error as StructError
from types import MappingProxyType
from typing import Any, NoReturn

from ownlm.artefact.gguf_types import KINDS, SCALARS, Kind
from ownlm.artefact.read import read_errors
from ownlm.errors import DamagedError, OwnlmError

MAGIC = b"GGUF"
# Bounds on what a header may make us allocate, all of them together under 200 MB.
MOST_KEYS = MOST_TENSORS = 1 << 16
MOST_ELEMENTS = 1_500_000  # in all lists together; about 1.3 million in Gemma 4, the largest vocabulary known
MOST_HEADER = 24 << 20  # bytes; about 17 million there
MOST_STRING = 1 << 20  # bytes
MOST_NAME = 64  # ggml's own bound
_ALIGNMENT, _MOST_ALIGNMENT = 32, 1 << 16
_STRING, _ARRAY, _BOOL = 8, 9, 7
_U32, _U64 = Struct("<I"), Struct("<Q")


@dataclass(frozen=True, kw_only=True)
class GgufTensor:
    """`shape` is torch's, slowest dimension first (the file has it the other way); `start` and `size` are bytes."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    start: int
    size: int


@dataclass(frozen=True, kw_only=True)
class GgufFile:
    path: Path
    version: int
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]
    buffer: mmap.mmap

    def stored(self, tensor: GgufTensor) -> memoryview:
        """A tensor's bytes as they lie in the file; nothing is copied."""
        return memoryview(self.buffer)[tensor.start : tensor.start + tensor.size]


def read_gguf(path: Path) -> GgufFile:
    """The file at `path`, its header checked to the last byte."""
    if not path.exists():
        raise OwnlmError(f"no such file: {path}; check the spelling")
    try:
        with read_errors(path), path.open("rb") as file:
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise DamagedError(f"{path} is empty; fetch it again") from None
    cursor = _Cursor(path, buffer)
    version, tensor_count, key_count = _read_counts(cursor)
    metadata = _read_metadata(cursor, key_count)
    tensors = _read_tensors(cursor, tensor_count, _alignment(cursor, metadata))
    return GgufFile(
        path=path,
        version=version,
        metadata=MappingProxyType(metadata),
        tensors=MappingProxyType(tensors),
        buffer=buffer,
    )


class _Cursor:
    """A place in the file that never leaves it."""

    def __init__(self, path: Path, buffer: mmap.mmap) -> None:
        self.path, self.size = path, len(buffer)
        # A copy, for slicing bytes is a third faster than slicing the map.
        self.head = buffer[:MOST_HEADER]
        self.end = len(self.head)
        self.place = 0
        self.elements = 0

    def damaged(self, what: str) -> NoReturn:
        raise DamagedError(f"{self.path} is damaged: {what}; fetch or write it again")

    def take(self, count: int, what: str) -> int:
        """Step over `count` bytes; where they began."""
        start = self.place
        if count > self.end - start:
            if self.end == self.size:
                self.damaged(f"{what} needs {count} bytes at {start}, and the file ends at {self.size}")
            self.damaged(f"its header goes on beyond {MOST_HEADER >> 20} MiB")
        self.place = start + count
        return start

    def whole(self, layout: Struct, what: str) -> int:
        value: int = layout.unpack_from(self.head, self.take(layout.size, what))[0]
        return value

    def string(self, what: str, most: int = MOST_STRING) -> str:
        length = self.whole(_U64, what)
        if length > most:
            self.damaged(f"{what} claims {length} bytes, more than {most}")
        start = self.take(length, what)
        try:
            return self.head[start : self.place].decode()
        except UnicodeDecodeError:
            self.damaged(f"{what} at {start} is not UTF-8")

    def strings(self, count: int, what: str) -> list[str]:
        """`string` in a loop without calls: a vocabulary has 300,000."""
        found: list[str] = []
        head, place, end, unpack = self.head, self.place, self.end, _U64.unpack_from
        start = place
        try:
            for _ in range(count):
                start = place + 8
                place = start + unpack(head, place)[0]
                if place > end or place - start > MOST_STRING:
                    break
                found.append(head[start:place].decode())
        except StructError:
            start = place + 8
        except UnicodeDecodeError:
            self.damaged(f"{what} at {start} is not UTF-8")
        self.place = place
        if len(found) < count:
            # The slow way refuses the one that failed, and says why.
            self.place = start - 8
            self.string(what)
        return found


def _read_counts(cursor: _Cursor) -> tuple[int, int, int]:
    """Version, number of tensors, number of keys."""
    begins = cursor.head[: len(MAGIC)]
    if begins != MAGIC:
        raise DamagedError(
            f"{cursor.path} is no GGUF file: it begins with {begins!r}, not with {MAGIC!r}; name another file"
        )
    cursor.place = len(MAGIC)
    version = cursor.whole(_U32, "the version")
    if version & 0xFFFF == 0 and version:
        raise DamagedError(f"{cursor.path} is a big-endian GGUF file, which ownlm does not read; convert it")
    if version not in (2, 3):
        raise DamagedError(f"{cursor.path} is GGUF version {version}; ownlm reads versions 2 and 3: convert it again")
    tensor_count = cursor.whole(_U64, "the number of tensors")
    key_count = cursor.whole(_U64, "the number of keys")
    if tensor_count > MOST_TENSORS or key_count > MOST_KEYS:
        cursor.damaged(f"it claims {tensor_count} tensors and {key_count} keys, and no model has so many")
    return version, tensor_count, key_count


def _read_metadata(cursor: _Cursor, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for number in range(count):
        key = cursor.string(f"the name of key {number + 1} of {count}", most=(1 << 16) - 1)
        if not key:
            cursor.damaged(f"key {number + 1} of {count} has no name")
        if key in metadata:
            cursor.damaged(f"the key {key!r} stands in it twice")
        metadata[key] = _read_value(cursor, cursor.whole(_U32, "a key's type"), repr(key))
    return metadata


def _read_value(cursor: _Cursor, kind: int, key: str) -> Any:
    if kind == _STRING:
        return cursor.string(key)
    if kind == _ARRAY:
        kind, count = cursor.whole(_U32, key), cursor.whole(_U64, key)
        if kind == _ARRAY:
            cursor.damaged(f"{key} is a list of lists, which no model's key is")
        cursor.elements += count
        if cursor.elements > MOST_ELEMENTS:
            cursor.damaged(f"{key} claims a list of {count}; all lists together may hold {MOST_ELEMENTS}")
        if kind == _STRING:
            return cursor.strings(count, key)
        return _read_numbers(cursor, kind, count, key)
    return _read_numbers(cursor, kind, 1, key)[0]


def _read_numbers(cursor: _Cursor, kind: int, count: int, key: str) -> list[Any]:
    if kind not in SCALARS:
        cursor.damaged(f"{key} has the unknown type {kind}")
    letter, size = SCALARS[kind]
    start = cursor.take(size * count, key)
    values = list(unpack_from(f"<{count}{letter}", cursor.head, start))
    if kind == _BOOL:
        if any(value > 1 for value in values):
            cursor.damaged(f"{key} is neither true nor false")
        return [value == 1 for value in values]
    return values


def _alignment(cursor: _Cursor, metadata: dict[str, Any]) -> int:
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    power_of_two = type(alignment) is int and alignment > 0 and alignment & (alignment - 1) == 0
    if not power_of_two or alignment > _MOST_ALIGNMENT:
        shown = alignment if isinstance(alignment, int | float) else type(alignment).__name__
        cursor.damaged(f"'general.alignment' is {shown}, no power of two up to {_MOST_ALIGNMENT}")
    return int(alignment)


def _read_tensors(cursor: _Cursor, count: int, alignment: int) -> dict[str, GgufTensor]:
    tensors: dict[str, GgufTensor] = {}
    for number in range(count):
        tensor = _read_tensor(cursor, f"tensor {number + 1} of {count}", alignment)
        if tensor.name in tensors:
            cursor.damaged(f"the tensor {tensor.name!r} stands in it twice")
        tensors[tensor.name] = tensor
    data = -(-cursor.place // alignment) * alignment
    placed = {
        name: GgufTensor(name=name, shape=t.shape, kind=t.kind, start=data + t.start, size=t.size)
        for name, t in tensors.items()
    }
    in_order = sorted(placed.values(), key=lambda tensor: tensor.start)
    for tensor in in_order:
        if tensor.start + tensor.size > cursor.size:
            cursor.damaged(
                f"the tensor {tensor.name!r} ends at {tensor.start + tensor.size}, and the file at {cursor.size}"
            )
    for before, after in pairwise(in_order):
        if before.start + before.size > after.start:
            cursor.damaged(f"the tensors {before.name!r} and {after.name!r} lie over one another")
    return placed


def _read_tensor(cursor: _Cursor, which: str, alignment: int) -> GgufTensor:
    """One entry; its `start` counts from where the tensors begin, which is known when all are read."""
    name = cursor.string(f"the name of {which}", most=MOST_NAME)
    dimensions = cursor.whole(_U32, which)
    if not name or not 1 <= dimensions <= 4:
        cursor.damaged(f"{which} ({name!r}) has {dimensions} dimensions")
    lengths = [cursor.whole(_U64, which) for _ in range(dimensions)]
    number, start = cursor.whole(_U32, which), cursor.whole(_U64, which)
    if number not in KINDS:
        cursor.damaged(f"the tensor {name!r} has the type {number}, which ownlm does not know")
    kind = KINDS[number]
    # A row, the fastest dimension, is whole blocks.
    if 0 in lengths or lengths[0] % kind.block:
        cursor.damaged(f"the tensor {name!r} is of shape {lengths[::-1]}, which {kind.name} cannot hold")
    if start % alignment:
        cursor.damaged(f"the tensor {name!r} lies at {start}, no multiple of {alignment}")
    elements = 1
    for length in lengths:
        elements *= length
    size = elements // kind.block * kind.bytes
    return GgufTensor(name=name, shape=tuple(lengths[::-1]), kind=kind, start=start, size=size)
