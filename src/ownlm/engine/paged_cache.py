"""Keys and values of every running text, in one pool of blocks.

    pool of a layer   [blocks, BLOCK, K, D]        slot = block * BLOCK + place in the block
    text A            blocks 4 5 6                 neighbours: read where they lie
    text B            blocks 9 2                   scattered: copied together to be read

In int8 each token's key (and value) of each head has a scale of its own, so what is stored does not depend on how
a prompt was cut into pieces. Attention reads what is stored, also of tokens of the same step.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ownlm.engine.blocks import BLOCK
from ownlm.errors import OwnlmError
from ownlm.model import DecoderConfig

CACHE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "int8": torch.int8}


class PagedCache:
    """The pool's tensors. Memory is touched only as blocks come into use."""

    def __init__(self, config: DecoderConfig, *, blocks: int, device: torch.device, dtype: torch.dtype) -> None:
        shape = (config.num_hidden_layers, blocks, BLOCK, config.num_key_value_heads, config.head_dim)
        try:
            # Not filled: only what comes into use takes memory. See `clear`.
            self.keys = torch.empty(shape, device=device, dtype=dtype)
            self.values = torch.empty(shape, device=device, dtype=dtype)
            scales = shape[:-1] if dtype == torch.int8 else (shape[0], 0, *shape[2:-1])
            self.key_scales = torch.empty(scales, device=device)
            self.value_scales = torch.empty(scales, device=device)
        except RuntimeError as error:
            tokens = blocks * BLOCK
            raise OwnlmError(f"no memory for a cache of {tokens:,} tokens; give fewer with cache_tokens") from error
        self.quantised = dtype == torch.int8

    @staticmethod
    def bytes_per_token(config: DecoderConfig, dtype: torch.dtype) -> int:
        heads = 2 * config.num_hidden_layers * config.num_key_value_heads
        return heads * (config.head_dim * dtype.itemsize + (4 if dtype == torch.int8 else 0))

    def write(self, layer: int, slots_N: Tensor, k_NKD: Tensor, v_NKD: Tensor) -> None:
        for new_NKD, pool, scales in (
            (k_NKD, self.keys, self.key_scales),
            (v_NKD, self.values, self.value_scales),
        ):
            if self.quantised:
                scale_NK = new_NKD.float().abs().amax(-1) / 127
                scales[layer].flatten(0, 1)[slots_N] = scale_NK
                # A key of zeros has the scale 0: divided by the least float it stays zero.
                new_NKD = (new_NKD.float() / scale_NK.clamp(min=1e-30).unsqueeze(-1)).round()
            pool[layer].flatten(0, 1)[slots_N] = new_NKD.to(pool.dtype)

    def where(self, blocks: Sequence[int]) -> slice | Tensor:
        """How `read` finds one text's blocks: neighbours where they lie, others by number."""
        first, count = blocks[0], len(blocks)
        if all(block == first + place for place, block in enumerate(blocks)):
            return slice(first, first + count)
        return torch.tensor(blocks, device=self.keys.device)

    def read(self, layer: int, where: slice | Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of the blocks, in whole blocks: [tokens, K, D], or [B, tokens, K, D] for numbers [B, b]."""
        keys, values = self._stored(layer, lambda pool: _rows(pool, where), dtype)
        return keys.flatten(-4, -3), values.flatten(-4, -3)

    def read_slots(self, layer: int, slots_S: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values [S, K, D] of single tokens."""
        return self._stored(layer, lambda pool: pool.flatten(0, 1).index_select(0, slots_S), dtype)

    def clear(self, blocks: Sequence[int]) -> None:
        """Put zeros where nothing was written, or another text's numbers are left, before it is read to a block's end.

        A masked key's weight is 0, and 0 times a stray NaN is NaN.
        """
        if blocks:
            numbers = torch.tensor(blocks, device=self.keys.device)
            scales = (self.key_scales, self.value_scales) if self.quantised else ()
            for pool in (self.keys, self.values, *scales):
                pool[:, numbers] = 0

    def _stored(self, layer: int, pick: Callable[[Tensor], Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        keys, values = pick(self.keys[layer]), pick(self.values[layer])
        if not self.quantised:
            return keys.to(dtype), values.to(dtype)
        key_scales, value_scales = pick(self.key_scales[layer]), pick(self.value_scales[layer])
        return (keys.float() * key_scales.unsqueeze(-1)).to(dtype), (values.float() * value_scales.unsqueeze(-1)).to(
            dtype
        )


def _rows(pool: Tensor, where: slice | Tensor) -> Tensor:
    if isinstance(where, slice):
        return pool[where]
    return pool.index_select(0, where.flatten()).view(*where.shape, *pool.shape[1:])
