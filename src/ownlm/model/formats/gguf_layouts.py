"""How GGUF lays out what Hugging Face lays out otherwise, both ways.

In:  an array as one side has it. Out: the same numbers as the other has them; shapes in `shape_in_hf`.

     query, key rows of a head   halves turned together  0 1 2 | 3 4 5   ◀──▶   0 3 1 4 2 5  neighbours
     GPT-NeoX's qkv rows         head by head  q k v q k v               ◀──▶   q q k k v v
     Gemma's norms               w, used as 1 + w                        ◀──▶   1 + w

Sources: llama.cpp's conversion scripts (llama.py, gptneox.py, gemma.py, gpt2.py).
"""

from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np

from ownlm.errors import DamagedError
from ownlm.model.formats.gguf_bits import Bytes, Floats

# Numbers, or the levels of their blocks.
Array = TypeVar("Array", Floats, Bytes)


class Layout(Enum):
    PLAIN = "plain"
    QUERY_ROWS = "query rows"
    KEY_ROWS = "key rows"
    QKV_BY_HEAD = "q, k, v by head"
    TRANSPOSED = "transposed"
    NORM_PLUS_ONE = "norm plus one"
    EXPERTS = "all experts in one"


@dataclass(frozen=True, kw_only=True)
class Heads:
    queries: int
    keys: int


def shape_in_hf(shape: tuple[int, ...], layout: Layout, heads: Heads, name: str) -> tuple[int, ...]:
    """The shape after `to_hf`, one expert's for EXPERTS; a shape that the layout does not fit is refused."""
    parts = {
        Layout.QUERY_ROWS: 2 * heads.queries,
        Layout.KEY_ROWS: 2 * heads.keys,
        Layout.QKV_BY_HEAD: 3 * heads.queries,
    }
    if layout in parts and shape[0] % parts[layout]:
        raise DamagedError(
            f"the tensor {name!r} has {shape[0]} rows, no multiple of {parts[layout]}, as its heads need; "
            "convert the file again"
        )
    if layout is Layout.EXPERTS:
        if len(shape) != 3:
            raise DamagedError(
                f"the tensor {name!r} of all experts has {len(shape)} dimensions, not 3; convert the file again"
            )
        return shape[1:]
    return shape[::-1] if layout is Layout.TRANSPOSED else shape


def to_hf(stored: Array, layout: Layout, heads: Heads) -> Array:
    """From GGUF's layout; `stored` is the tensor's own array and may be changed. EXPERTS are taken apart before."""
    match layout:
        case Layout.QUERY_ROWS:
            return _regroup(stored, heads.queries, -1, 2)
        case Layout.KEY_ROWS:
            return _regroup(stored, heads.keys, -1, 2)
        case Layout.QKV_BY_HEAD:
            return _swapped(stored.reshape(3, heads.queries, -1, *stored.shape[1:]), 0, stored.shape)
        case Layout.TRANSPOSED:
            return np.ascontiguousarray(stored.T)
        case Layout.NORM_PLUS_ONE:
            stored -= 1
    return stored


def to_gguf(numbers: Floats, layout: Layout, heads: Heads) -> Floats:
    """Into GGUF's layout; `numbers` is left as it is. EXPERTS are put together before."""
    match layout:
        case Layout.QUERY_ROWS:
            return _regroup(numbers, heads.queries, 2, -1)
        case Layout.KEY_ROWS:
            return _regroup(numbers, heads.keys, 2, -1)
        case Layout.QKV_BY_HEAD:
            return _swapped(numbers.reshape(heads.queries, 3, -1, *numbers.shape[1:]), 0, numbers.shape)
        case Layout.TRANSPOSED:
            return np.ascontiguousarray(numbers.T)
        case Layout.NORM_PLUS_ONE:
            return numbers + np.float32(1)
    return numbers


def _regroup(rows: Array, heads: int, outer: int, inner: int) -> Array:
    """Within each head, rows counted (outer, inner) are counted (inner, outer)."""
    return _swapped(rows.reshape(heads, outer, inner, *rows.shape[1:]), 1, rows.shape)


def _swapped(grouped: Array, axis: int, shape: tuple[int, ...]) -> Array:
    return np.ascontiguousarray(grouped.swapaxes(axis, axis + 1)).reshape(shape)
