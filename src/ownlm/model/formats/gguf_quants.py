"""Stored tensors into float32 numbers, and back into blocks: GGUF's quantised types.

In:  a tensor's bytes. Out: its numbers, float32, flat, in an array of their own.

     a block   d · m · q q q q ...   ──▶   d * q + m     (d, m float16; q of a few bits; 32 or 256 to a block)

A chunk at a time, small enough to stay in the cache: beside the result nothing of size is allocated. The common types
are decoded here, in numpy (torch took 1.4 times as long, gguf.quants two to four times: 0.7 s of processor time against
0.3 for 100 million numbers of Q4_1), and held to gguf.quants bit by bit in the tests; the rest goes through it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from ownlm.artefact.gguf_types import Kind
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.formats import gguf_kquants
from ownlm.model.formats.gguf_bits import Bytes, Floats, half

# Numbers decoded at once: 512 KiB of float32.
_CHUNK = 1 << 17
# Below this a block's scale would be subnormal, and its inverse infinite.
_TINY = np.float32(1e-30)

# Fills out[n, block] from blocks[n, bytes]; returns the scales, by which the numbers are finite or not.
Decode = Callable[[Bytes, Floats], Floats]


def dequantize(stored: memoryview, kind: Kind, name: str) -> Floats:
    """All numbers of the tensor `name`. Infinite ones and NaN are refused: they would silently spread."""
    if kind.name not in _DECODERS and kind.name not in _OTHERS:
        raise OwnlmError(
            f"the tensor {name!r} is stored as {kind.name}, which ownlm does not read as weights; "
            "take another file of the model"
        )
    blocks = np.frombuffer(stored, np.uint8).reshape(-1, kind.bytes)
    # torch's own memory, which it computes with best, so that nobody has to copy it.
    out: Floats = torch.empty((len(blocks), kind.block)).numpy()
    decode = _DECODERS.get(kind.name) or _by_the_package(kind.name)
    step = max(1, _CHUNK // kind.block)

    def fill(first: int) -> bool:
        # A NaN in a damaged file is said below, not as numpy's warning.
        with np.errstate(all="ignore"):
            scales = decode(blocks[first : first + step], out[first : first + step])
        return bool(np.isfinite(scales).all())

    chunks = range(0, len(blocks), step)
    with ThreadPoolExecutor(min(len(chunks), torch.get_num_threads()) or 1) as pool:
        if not all(pool.map(fill, chunks)):
            raise _not_finite(name)
    return out.reshape(-1)


def read_blocks(stored: memoryview, kind: Kind, name: str) -> tuple[Bytes, Floats, Floats]:
    """Of a tensor whose type is in BLOCKS: levels [n, 32], scales [n, 1], minima [n, 1].

    number = level * scale + minimum
    """
    blocks = np.frombuffer(stored, np.uint8).reshape(-1, kind.bytes)
    levels = np.empty((len(blocks), kind.block), np.uint8)
    _nibbles(blocks[:, kind.bytes - kind.block // 2 :], levels)
    scales = half(blocks[:, :2])
    minima = half(blocks[:, 2:4]) if kind.name == "Q4_1" else -8 * scales
    if not (np.isfinite(scales).all() and np.isfinite(minima).all()):
        raise _not_finite(name)
    return levels, scales, minima


def _not_finite(name: str) -> DamagedError:
    return DamagedError(f"the tensor {name!r} holds NaN or infinite numbers; fetch or write the file again")


def quantize(numbers: Floats, kind: str, name: str) -> Bytes:
    """Rows of `numbers`, [..., row], as bytes [..., bytes of a row]; a row must be whole blocks."""
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize as encode

    if not np.isfinite(numbers).all():
        raise OwnlmError(
            f"the tensor {name!r} holds NaN or infinite numbers, which no file should keep; restore the model"
        )
    if kind == "F32":
        return np.ascontiguousarray(numbers, np.float32).view(np.uint8)
    if kind == "F16":
        with np.errstate(over="ignore"):
            halves = np.ascontiguousarray(numbers).astype(np.float16)
        if not np.isfinite(halves).all():
            raise OwnlmError(f"the tensor {name!r} holds numbers too large for F16; choose BF16 or F32")
        return halves.view(np.uint8)
    flat = np.ascontiguousarray(numbers, np.float32).reshape(1, -1)
    parts = []
    with np.errstate(all="ignore"):
        for first in range(0, flat.size, _CHUNK):
            part = flat[:, first : first + _CHUNK]
            if kind != "BF16":
                part = np.where(np.abs(part) < _TINY, np.float32(0), part)
            parts.append(encode(part, GGMLQuantizationType[kind]).reshape(-1))
    return np.concatenate(parts).reshape(*numbers.shape[:-1], -1)


def _f32(blocks: Bytes, out: Floats) -> Floats:
    out[:] = blocks.view("<f4")
    return out


def _f16(blocks: Bytes, out: Floats) -> Floats:
    out[:] = blocks.view("<f2")
    return out


def _bf16(blocks: Bytes, out: Floats) -> Floats:
    """The upper half of a float32."""
    out.view(np.uint32)[:] = blocks.view("<u2")
    out.view(np.uint32)[:] <<= 16
    return out


def _f64(blocks: Bytes, out: Floats) -> Floats:
    out[:] = blocks.view("<f8")
    return out


def _q8_0(blocks: Bytes, out: Floats) -> Floats:
    d = half(blocks[:, :2])
    np.multiply(blocks[:, 2:].view(np.int8), d, out=out)
    return d


def _nibbles(quants: Bytes, out: Floats | Bytes) -> None:
    """Sixteen bytes hold thirty-two numbers: the low halves first, then the high ones."""
    out[:, :16] = quants & 15
    out[:, 16:] = quants >> 4


def _fifth_bits(packed: Bytes, out: Floats) -> None:
    out += np.unpackbits(packed, axis=1, bitorder="little") << 4


def _q4_0(blocks: Bytes, out: Floats) -> Floats:
    d = half(blocks[:, :2])
    _nibbles(blocks[:, 2:], out)
    out -= 8
    out *= d
    return d


def _q4_1(blocks: Bytes, out: Floats) -> Floats:
    scales = half(blocks[:, :4])
    _nibbles(blocks[:, 4:], out)
    out *= scales[:, :1]
    out += scales[:, 1:]
    return scales


def _q5_0(blocks: Bytes, out: Floats) -> Floats:
    d = half(blocks[:, :2])
    _nibbles(blocks[:, 6:], out)
    _fifth_bits(blocks[:, 2:6], out)
    out -= 16
    out *= d
    return d


def _q5_1(blocks: Bytes, out: Floats) -> Floats:
    scales = half(blocks[:, :4])
    _nibbles(blocks[:, 8:], out)
    _fifth_bits(blocks[:, 4:8], out)
    out *= scales[:, :1]
    out += scales[:, 1:]
    return scales


def _by_the_package(name: str) -> Decode:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize as decode

    def fill(blocks: Bytes, out: Floats) -> Floats:
        # As one long row: the package goes through rows sixteen at a time.
        decoded: Floats = decode(blocks.reshape(1, -1), GGMLQuantizationType[name])
        out[:] = decoded.reshape(out.shape)
        return out

    return fill


_DECODERS: dict[str, Decode] = {
    "F32": _f32,
    "F16": _f16,
    "BF16": _bf16,
    "F64": _f64,
    "Q8_0": _q8_0,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    **gguf_kquants.DECODERS,
}
_IQ = {"IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS"}
_OTHERS = frozenset(_IQ | {"TQ1_0", "TQ2_0", "MXFP4", "NVFP4"})
# Types that are kept as blocks: 4 bits a number, one scale and one minimum for 32 of them.
BLOCKS = frozenset({"Q4_0", "Q4_1"})
READABLE = frozenset(_DECODERS) | _OTHERS
