"""Linear maps on a file's own 4-bit blocks, and a head of 8 bits, by torch's packed kernels.

    few rows    x (bfloat16) ──▶ packed kernel      an eighth of the bytes of float32 is read, for each token anew
    many rows   x ──▶ dense product                 of the dequantised matrix, laid out once beside the blocks

A row's result depends on that row alone, in either way; the two ways differ by what bfloat16 costs. On SmolLM2 the
packed kernels' logits differ from float32's by 0.11 (root mean square; they spread over 7), and the likeliest token is
the same in 97 places of 100. Whoever needs float32 everywhere opens with dtype="float32".

In:  Blocks of GGUF's Q4_0 and Q4_1, groups of 32. Out: kernels for projection.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ownlm.machine import has_fast_bfloat16, memory
from ownlm.model.checkpoint import GROUP, Blocks, StoredTensor
from ownlm.model.families.tensor_map import Stored
from ownlm.model.projection import Dense, Projection

# torch packs outputs by 16; its int8 kernel reads inputs by 16 and, without asking, past the end of others.
_MULTIPLE = 16
# Reading 4 bits costs more arithmetic than reading floats, and pays while reading is what takes the time: on an AVX2
# processor the dense product was as fast at 4 rows and 1.4 times as fast at 16. Against products in bfloat16, where
# these are fast, it pays up to more rows.
FEW_ROWS = {torch.float32: 4, torch.bfloat16: 32}
_HEAD_ROWS = 512
# Dense matrices are kept beside the blocks while all of them fit in this share of the machine's memory; a model too
# large for that computes many rows by the packed kernel too, in up to twice the time.
DENSE_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Int4:
    """`packed` and `scales_zeros` as torch's kernel wants them: number = (level - 8) * scale + zero, in bfloat16."""

    name: str
    packed: Tensor
    scales_zeros_GO2: Tensor
    bias: Tensor | None
    dense: Dense | None

    def __call__(self, x: Tensor) -> Tensor:
        rows_NE = x.reshape(-1, x.shape[-1])
        if self.dense is not None and len(rows_NE) > FEW_ROWS[self.dense.weight.dtype]:
            return self.dense(x).to(x.dtype)
        out: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(
            rows_NE.bfloat16(), self.packed, GROUP, self.scales_zeros_GO2
        )
        out = out.view(*x.shape[:-1], -1).to(x.dtype)
        return out if self.bias is None else out + self.bias


@dataclass(frozen=True, kw_only=True)
class Int8Head:
    """A head of 8 bits, with a scale for each row and one for each column: beside layers of 4 bits a dense one would
    be most of what a token reads.

    A file has a scale for 32 numbers. That there are fewer here moves SmolLM2's logits by 0.06 (root mean square), of
    0.11 that all of the arithmetic does; without the columns' scales by 0.076.
    """

    name: str
    levels_VE: Tensor
    scales_V: Tensor
    scales_E: Tensor
    dense: Dense

    def __call__(self, x: Tensor) -> Tensor:
        rows_NE = x.reshape(-1, x.shape[-1])
        if len(rows_NE) > FEW_ROWS[self.dense.weight.dtype]:
            return self.dense(x)
        scaled_NE = (rows_NE * self.scales_E).bfloat16()
        out: Tensor = torch.ops.aten._weight_int8pack_mm(scaled_NE, self.levels_VE, self.scales_V)
        return out.view(*x.shape[:-1], -1).to(x.dtype)


def int4_kernel(parts: Sequence[Blocks], name: str, bias: Tensor | None, dense: torch.dtype | None) -> Int4:
    """Of the layers of one input, one behind the other. `dense`: the type of the matrix for many rows, or none."""
    levels_OE = torch.cat([part.levels for part in parts])
    scales_OG = torch.cat([part.scales for part in parts])
    minima_OG = torch.cat([part.minima for part in parts])
    matrix = None
    if dense is not None:
        levels_OG32 = levels_OE.view(*scales_OG.shape, GROUP)
        numbers = (levels_OG32 * scales_OG.unsqueeze(-1)).add_(minima_OG.unsqueeze(-1))
        matrix = Dense(numbers.view_as(levels_OE).to(dense), None if bias is None else bias.to(dense))
    scales_zeros_OG2 = torch.stack((scales_OG, minima_OG + 8 * scales_OG), dim=-1).bfloat16()
    return Int4(
        name=name,
        packed=torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels_OE.int(), 1),
        scales_zeros_GO2=scales_zeros_OG2.transpose(0, 1).contiguous(),
        bias=bias,
        dense=matrix,
    )


def int4_bytes(numbers: int, dense: torch.dtype | None) -> int:
    """What an Int4 of so many numbers takes: half a byte each, two bfloat16 for each group, and the dense matrix."""
    return numbers // 2 + numbers // GROUP * 4 + (0 if dense is None else numbers * dense.itemsize)


def int8_head(weight_VE: Tensor, name: str) -> Int8Head:
    weight_VE = weight_VE.detach()
    # A few rows at a time stay in the processor's caches: a third of the time that whole matrices take.
    parts = torch.split(weight_VE, _HEAD_ROWS)
    scales_E = torch.stack([part.abs().amax(0) for part in parts]).amax(0).clamp(min=1e-30)
    scales, levels = [], []
    for part in parts:
        even = part / scales_E
        # Levels are counted in the scale as it is kept, so its own rounding costs nothing.
        scales.append((even.abs().amax(1) / 127).clamp(min=1e-30).bfloat16())
        levels.append((even / scales[-1].float().unsqueeze(1)).round_().clamp_(-127, 127).to(torch.int8))
    dense = Dense(weight_VE, None)
    return Int8Head(name=name, levels_VE=torch.cat(levels), scales_V=torch.cat(scales), scales_E=scales_E, dense=dense)


def kept_in_blocks(
    places: Mapping[str, tuple[Projection, slice]], layout: Mapping[str, Stored], found: Mapping[str, StoredTensor]
) -> dict[Projection, list[str]]:
    """Projections whose layers are all stored in blocks that the kernel takes, with the names of their weights."""
    stored_of = {parameter: found[name] for name, stored in layout.items() for parameter in stored.parameters}
    weights: dict[Projection, list[str]] = {}
    for layer, (projection, _) in places.items():
        weights.setdefault(projection, []).append(f"{layer}.weight")
    return {
        projection: names
        for projection, names in weights.items()
        if all(name in stored_of and stored_of[name].read_blocks is not None for name in names)
        and sum(projection.sizes) % _MULTIPLE == 0
    }


def dense_type(projections: Sequence[Projection]) -> torch.dtype | None:
    """What the dense matrices beside all blocks are kept in; None: they would take too much memory."""
    dtype = torch.bfloat16 if has_fast_bfloat16() else torch.float32
    numbers = sum(layer.in_features * layer.out_features for projection in projections for layer in projection.layers)
    return dtype if numbers * dtype.itemsize <= DENSE_SHARE * memory().total_bytes else None


def takes_int8(weight_VE: Tensor, stored_as: str) -> bool:
    """Is this a head of at most 8 bits, and of a width that the kernel takes?"""
    return stored_as.startswith(("Q", "IQ")) and weight_VE.shape[1] % _MULTIPLE == 0
