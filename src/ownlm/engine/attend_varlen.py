"""Attention of one step on a graphics card: all texts in one call a layer, whatever their lengths.

    row     a7 | b3 b4 b5 | c9         queries of every text, one behind the other
    past    a0 .. a7 | b0 .. b5 | ...  their keys and values, copied together out of the blocks

torch's own kernel reads a paged cache where it lies only with FlashAttention 3 installed beside torch, so the past is
copied. Half precision alone: what it cannot do (float32, capped scores) attend.py does.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from ownlm.engine.attend import Span, slots_of
from ownlm.engine.paged_cache import PagedCache


class VarlenAttention:
    """What the decoder calls in every layer of one step; see model/cache.py."""

    def __init__(self, cache: PagedCache, spans: Sequence[Span]) -> None:
        self.cache = cache
        device = cache.keys.device
        self.slots_N = torch.tensor([slot for span in spans for slot in slots_of(span, span.count)], device=device)
        self.past_S = torch.tensor([slot for span in spans for slot in slots_of(span, span.length)], device=device)
        self.queries, self.most_queries = _ends([span.count for span in spans], device)
        self.keys, self.most_keys = _ends([span.length for span in spans], device)

    def attend(
        self,
        layer: int,
        q_HND: Tensor,
        k_NKD: Tensor,
        v_NKD: Tensor,
        *,
        window: int | None,
        scale: float,
        cap: float | None,
    ) -> Tensor:
        assert cap is None
        self.cache.write(layer, self.slots_N, k_NKD, v_NKD)
        k_SKD, v_SKD = self.cache.read_slots(layer, self.past_S, q_HND.dtype)
        mixed_NHD = varlen_attn(
            q_HND.transpose(0, 1).contiguous(),
            k_SKD,
            v_SKD,
            self.queries,
            self.keys,
            self.most_queries,
            self.most_keys,
            scale=scale,
            # Tokens to the left of itself that a token sees; none to its right.
            window_size=(-1 if window is None else window - 1, 0),
            enable_gqa=q_HND.shape[0] != k_SKD.shape[1],
        )
        assert isinstance(mixed_NHD, Tensor)
        return mixed_NHD.transpose(0, 1)


def _ends(counts: Sequence[int], device: torch.device) -> tuple[Tensor, int]:
    """Where each text begins and the last ends, int32 [texts + 1], and the longest."""
    ends = torch.tensor([0, *counts], device=device).cumsum(0).to(torch.int32)
    return ends, max(counts)
