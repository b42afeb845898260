"""GGUF's k-quants: 256 numbers in a block of smaller ones, each with a scale that is quantised itself.

     d · scales (4 to 8 bits each) · q (2 to 6 bits each)   ──▶   (d * scale) * q - (dmin * min)

In:  blocks[n, bytes]. Out: out[n, 256] filled, and the scales. The order of the bits is that of ggml-quants.c, as
gguf.quants reads it.
"""

from collections.abc import Callable

import numpy as np

from ownlm.model.formats.gguf_bits import Bytes, Floats, half


def _two_bits(quants: Bytes) -> Bytes:
    """64 bytes [n, 2 x 32] as 256 numbers below four, [n, 2, 4, 32]: each byte holds four of the second-last."""
    parts = quants.reshape(len(quants), 2, 1, 32)
    return (parts >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)) & np.uint8(3)


def _one_bit(mask: Bytes) -> Bytes:
    """32 bytes as 256 bits, [n, 8, 32]: bit i of byte j is number 32 i + j."""
    return (mask[:, None, :] >> np.arange(8, dtype=np.uint8).reshape(1, 8, 1)) & np.uint8(1)


def _six_bit_scales(packed: Bytes) -> tuple[Floats, Floats]:
    """Twelve bytes hold eight scales and eight minima of six bits, both [n, 8]."""
    first, second, rest = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate((first & 63, (rest & 15) | ((first >> 2) & 48)), axis=1)
    minima = np.concatenate((second & 63, (rest >> 4) | ((second >> 2) & 48)), axis=1)
    return scales.astype(np.float32), minima.astype(np.float32)


def _q2_k(blocks: Bytes, out: Floats) -> Floats:
    d = half(blocks[:, 80:])
    scales, minima = blocks[:, :16] & 15, blocks[:, :16] >> 4
    out[:] = _two_bits(np.ascontiguousarray(blocks[:, 16:80])).reshape(out.shape)
    by_sixteen = out.reshape(-1, 16, 16)
    by_sixteen *= (d[:, :1] * scales)[:, :, None]
    by_sixteen -= (d[:, 1:] * minima)[:, :, None]
    return d


def _q3_k(blocks: Bytes, out: Floats) -> Floats:
    d = half(blocks[:, 108:])
    packed = blocks[:, 96:108]
    low = np.concatenate((packed[:, :8] & 15, packed[:, :8] >> 4), axis=1)
    high = [(packed[:, 8:] >> shift) & 3 for shift in (0, 2, 4, 6)]
    scales = (low | np.concatenate(high, axis=1) << 4).astype(np.float32) - 32
    # A third bit that is not set takes four away.
    third = _one_bit(blocks[:, :32])
    out[:] = _two_bits(np.ascontiguousarray(blocks[:, 32:96])).reshape(out.shape)
    out += (third << 2).reshape(out.shape)
    out -= 4
    by_sixteen = out.reshape(-1, 16, 16)
    by_sixteen *= (d * scales)[:, :, None]
    return d


def _scaled_by_32(d: Floats, packed: Bytes, out: Floats) -> None:
    scales, minima = _six_bit_scales(packed)
    by_32 = out.reshape(-1, 8, 32)
    by_32 *= (d[:, :1] * scales)[:, :, None]
    by_32 -= (d[:, 1:] * minima)[:, :, None]


def _nibbles(quants: Bytes, out: Floats) -> None:
    """128 bytes: of each 32 the low halves are 32 numbers and the high halves the next 32."""
    parts, pairs = quants.reshape(-1, 4, 32), out.reshape(-1, 4, 2, 32)
    pairs[:, :, 0] = parts & 15
    pairs[:, :, 1] = parts >> 4


def _q4_k(blocks: Bytes, out: Floats) -> Floats:
    d = half(blocks[:, :4])
    _nibbles(np.ascontiguousarray(blocks[:, 16:]), out)
    _scaled_by_32(d, blocks[:, 4:16], out)
    return d


def _q5_k(blocks: Bytes, out: Floats) -> Floats:
    d = half(blocks[:, :4])
    _nibbles(np.ascontiguousarray(blocks[:, 48:]), out)
    out += (_one_bit(blocks[:, 16:48]) << 4).reshape(out.shape)
    _scaled_by_32(d, blocks[:, 4:16], out)
    return d


def _q6_k(blocks: Bytes, out: Floats) -> Floats:
    d = half(blocks[:, 208:])
    low = np.ascontiguousarray(blocks[:, :128]).reshape(-1, 2, 64)
    halves = out.reshape(-1, 2, 2, 64)
    halves[:, :, 0] = low & 15
    halves[:, :, 1] = low >> 4
    out += (_two_bits(np.ascontiguousarray(blocks[:, 128:192])) << 4).reshape(out.shape)
    out -= 32
    by_sixteen = out.reshape(-1, 16, 16)
    by_sixteen *= (d * blocks[:, 192:208].view(np.int8))[:, :, None]
    return d


DECODERS: dict[str, Callable[[Bytes, Floats], Floats]] = {
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
