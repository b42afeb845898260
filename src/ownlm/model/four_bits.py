"""Linear maps whose weights stand still in 4 bits, and through which gradients go: QLoRA's base (arXiv:2305.14314).

    x ──▶ x @ (levels * scale + minimum)^T ──▶ out      the matrix is there while its product is computed, no longer
    gradient of x ◀── gradient @ (levels * scale + minimum)                       and made once more for the way back

In:  a GGUF file's own blocks of Q4_0 and Q4_1, or float weights, which become Q4_1 as `ownlm convert` would write it.
Out: kernels for projection.py, 5 bits a number with the scales; the arithmetic is x's own, float32 or autocast's type.

The paper's NF4 has 64 numbers to a block and one scale; with a minimum to each 32, Q4_1 keeps more, and the base on
which one trains is then, bit for bit, that of a Q4_1 file of the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ownlm.artefact.gguf_types import KINDS
from ownlm.model.checkpoint import GROUP, Blocks
from ownlm.model.formats.gguf_quants import quantize, read_blocks
from ownlm.model.projection import Projection

_KIND = next(kind for kind in KINDS.values() if kind.name == "Q4_1")
# Numbers that are laid out at once on the processor, 1 MB of them: fewer cost more in calls (a quarter took 1.7 times
# as long), more no longer stay in its cache.
_CHUNK = 1 << 18


@dataclass(frozen=True, kw_only=True, eq=False)
class FourBits:
    """Of one or several layers of one input, one behind the other. Two levels lie in a byte: number 16 + i of a block
    in the upper half of byte i, as in GGUF.
    """

    name: str
    packed_OGb: Tensor
    scales_OG: Tensor
    minima_OG: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        out: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def weight(self, dtype: torch.dtype, rows: slice = slice(None)) -> Tensor:
        """The matrix [O, E], or some rows of it: the numbers that the blocks stand for."""
        packed_OGb, scales_OG, minima_OG = self.packed_OGb[rows], self.scales_OG[rows], self.minima_OG[rows]
        count, groups, half = packed_OGb.shape
        out_OG2b = torch.empty(count, groups, 2, half, dtype=dtype, device=packed_OGb.device)
        wide = torch.promote_types(dtype, torch.float32)
        step = max(1, _CHUNK // (groups * GROUP)) if out_OG2b.device.type == "cpu" else count
        for first in range(0, count, step):
            place = slice(first, first + step)
            packed = packed_OGb[place]
            levels_OG2b = torch.stack((packed & 15, packed >> 4), dim=2).to(wide)
            levels_OG2b *= scales_OG[place, :, None, None].to(wide)
            levels_OG2b += minima_OG[place, :, None, None].to(wide)
            out_OG2b[place] = levels_OG2b
        return out_OG2b.view(count, groups * GROUP)


class _Product(torch.autograd.Function):
    """Nothing is kept for the way back but the blocks, which are there anyhow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: FourBits) -> Tensor:
        ctx.kernel = kernel
        return F.linear(x, kernel.weight(x.dtype))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        (d_out,) = upstream
        return d_out @ ctx.kernel.weight(d_out.dtype), None


def to_blocks(weight_OE: Tensor, name: str) -> Blocks:
    """Float weights in blocks of 4 bits."""
    numbers = weight_OE.detach().float().cpu().contiguous().numpy()
    rows = len(numbers)
    stored = quantize(numbers, _KIND.name, name).reshape(-1).data
    levels, scales, minima = read_blocks(stored, _KIND, name)
    levels_OE, scales_OG, minima_OG = (torch.from_numpy(part.reshape(rows, -1)) for part in (levels, scales, minima))
    return Blocks(levels=levels_OE, scales=scales_OG, minima=minima_OG)


def packed(blocks: Blocks) -> Blocks:
    """The same in a third of the memory: two levels to a byte [O, G, 16], scales and minima in 16 bits."""
    levels_OG2b = blocks.levels.reshape(*blocks.scales.shape, 2, GROUP // 2)
    return Blocks(
        levels=levels_OG2b[:, :, 0] | levels_OG2b[:, :, 1] << 4,
        scales=_narrow(blocks.scales),
        minima=_narrow(blocks.minima),
    )


def four_bits_kernel(parts: Sequence[Blocks], bias: Tensor | None, device: str | torch.device) -> FourBits:
    """Of what `packed` gave for each of the layers of one input."""
    return FourBits(
        name="4-bit blocks",
        packed_OGb=torch.cat([part.levels for part in parts]).to(device),
        scales_OG=torch.cat([part.scales for part in parts]).to(device),
        minima_OG=torch.cat([part.minima for part in parts]).to(device),
        bias=bias,
    )


def fitting(places: Mapping[str, tuple[Projection, slice]]) -> dict[Projection, list[str]]:
    """Projections whose rows are whole blocks, with the names of their weights. Not the head: quality hangs on it most,
    and where it is tied it is the embedding, which is looked up and not multiplied.
    """
    weights: dict[Projection, list[str]] = {}
    for layer, (projection, _) in places.items():
        if layer != "lm_head" and projection.layers[0].in_features % GROUP == 0:
            weights.setdefault(projection, []).append(f"{layer}.weight")
    return weights


def _narrow(numbers: Tensor) -> Tensor:
    """Files hold 16 bits; -8 times a scale of Q4_0 fits into them too, but for scales that no weight has."""
    half = numbers.half()
    return half if torch.equal(half.float(), numbers) else numbers
