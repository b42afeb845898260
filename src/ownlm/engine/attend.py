"""Attention of one step: a flat row of tokens of many texts, each looking at its own text in the paged cache.

    row       a7 | b3 b4 b5 | c9 | d40      spans: text a has one new token, b a piece of its prompt ...
    short     a7, c9                        copied together, one product with a mask
    alone     b3 b4 b5, then d40            read where they lie, a product each

Copying costs with the length of the past, a product of its own costs the same always: where the one overtakes the
other was measured (docs/LOG.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ownlm.engine.blocks import BLOCK
from ownlm.engine.paged_cache import PagedCache
from ownlm.model import AttentionCache
from ownlm.model.attention import capped_attention
from ownlm.model.mask import within

# Bytes of keys and values a layer, up to which a text's past is copied together with others'.
SHORT = 384 * 1024


@dataclass(frozen=True, kw_only=True)
class Span:
    """`count` new tokens of one text, which has `length` tokens with them, kept in `blocks`."""

    count: int
    length: int
    blocks: Sequence[int]


def attention_of(cache: PagedCache, spans: Sequence[Span], dtype: torch.dtype, cap: float | None) -> AttentionCache:
    """The way that is right for the device, the queries' dtype and the model."""
    if cache.keys.device.type == "cuda" and dtype in (torch.bfloat16, torch.float16) and cap is None:
        # Not before it is needed: torch's part of it takes seconds to import.
        from ownlm.engine.attend_varlen import VarlenAttention

        return VarlenAttention(cache, spans)
    return StepAttention(cache, spans)


def slots_of(span: Span, count: int) -> list[int]:
    """Where the cache keeps the text's last `count` tokens."""
    return [span.blocks[place // BLOCK] * BLOCK + place % BLOCK for place in range(span.length - count, span.length)]


class StepAttention:
    """What the decoder calls in every layer of one step; see model/cache.py."""

    def __init__(self, cache: PagedCache, spans: Sequence[Span]) -> None:
        self.cache = cache
        device = cache.keys.device
        slots: list[int] = []
        alone: list[_Alone] = []
        short: list[tuple[int, Span]] = []
        begun: list[int] = []
        heads, dim = cache.keys.shape[-2:]
        for span in spans:
            start = len(slots)
            slots += slots_of(span, span.count)
            if span.length % BLOCK and span.length // BLOCK * BLOCK >= span.length - span.count:
                begun.append(span.blocks[span.length // BLOCK])
            blocks = span.blocks[: -(-span.length // BLOCK)]
            span = Span(count=span.count, length=span.length, blocks=blocks)
            if span.count == 1 and 2 * span.length * heads * dim * cache.keys.itemsize <= SHORT:
                short.append((start, span))
            else:
                alone.append(_Alone(start=start, span=span, where=cache.where(blocks)))
        if len(short) == 1:
            start, span = short.pop()
            alone.append(_Alone(start=start, span=span, where=cache.where(span.blocks)))
        # A block that is begun and not filled may be read to its end: whatever lay there before must be finite.
        cache.clear(begun)
        self.slots_N = torch.tensor(slots, device=device)
        self.alone = alone
        self.short = _Short(short, device) if short else None

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
        self.cache.write(layer, self.slots_N, k_NKD, v_NKD)
        mixed_HND = torch.empty_like(q_HND)
        if self.short is not None:
            k_BSKD, v_BSKD = self.cache.read(layer, self.short.blocks_Bb, q_HND.dtype)
            q_BH1D = q_HND[:, self.short.places_B].transpose(0, 1).unsqueeze(2)
            seen = self.short.mask(window)
            mixed = mix(q_BH1D, k_BSKD.transpose(1, 2), v_BSKD.transpose(1, 2), seen, scale, cap)
            mixed_HND[:, self.short.places_B] = mixed.squeeze(2).transpose(0, 1)
        for one in self.alone:
            span, place = one.span, slice(one.start, one.start + one.span.count)
            k_SKD, v_SKD = self.cache.read(layer, one.where, q_HND.dtype)
            # The first that any of these tokens sees.
            first = 0 if window is None else max(0, span.length - span.count + 1 - window)
            k_KSD = k_SKD[first : span.length].transpose(0, 1)
            v_KSD = v_SKD[first : span.length].transpose(0, 1)
            mask = one.mask(window, span.length - first, q_HND.device)
            mixed_HND[:, place] = mix(q_HND[None, :, place], k_KSD[None], v_KSD[None], mask, scale, cap)[0]
        return mixed_HND


@dataclass(frozen=True, kw_only=True)
class _Alone:
    start: int
    span: Span
    where: slice | Tensor
    _masks: dict[int | None, Tensor | None] = field(default_factory=dict)

    def mask(self, window: int | None, keys: int, device: torch.device) -> Tensor | None:
        """[1, 1, T, S] over the last `keys` tokens of the text; None where plain causal attention is right."""
        if window not in self._masks:
            count = self.span.count
            plain = count == 1 or (count == keys and (window is None or keys <= window))
            seen_TS = None if plain else torch.ones(count, keys, dtype=torch.bool, device=device).tril(keys - count)
            self._masks[window] = None if seen_TS is None else within(seen_TS, window)[None, None]
        return self._masks[window]


class _Short:
    """Texts with one new token each, padded to the longest on the right."""

    def __init__(self, spans: Sequence[tuple[int, Span]], device: torch.device) -> None:
        most = max(len(span.blocks) for _, span in spans)
        # Any block will do as padding: the mask hides it.
        rows = [[*span.blocks, *[span.blocks[0]] * (most - len(span.blocks))] for _, span in spans]
        self.blocks_Bb = torch.tensor(rows, device=device)
        self.places_B = torch.tensor([start for start, _ in spans], device=device)
        self._lengths_Bx = torch.tensor([[span.length] for _, span in spans], device=device)
        self._masks: dict[int | None, Tensor] = {}

    def mask(self, window: int | None) -> Tensor:
        """[B, 1, 1, S]"""
        if window not in self._masks:
            key_S = torch.arange(self.blocks_Bb.shape[1] * BLOCK, device=self.blocks_Bb.device)
            seen_BS = key_S < self._lengths_Bx
            if window is not None:
                seen_BS &= key_S >= self._lengths_Bx - window
            self._masks[window] = seen_BS[:, None, None]
        return self._masks[window]


def mix(q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, mask: Tensor | None, scale: float, cap: float | None) -> Tensor:
    """`mask` None: plain causal, or a single token that sees all."""
    count = q_BHTD.shape[2]
    if cap is not None:
        keys = k_BKSD.shape[2]
        seen = torch.ones(count, keys, dtype=torch.bool, device=q_BHTD.device).tril(keys - count)[None, None]
        return capped_attention(q_BHTD, k_BKSD, v_BKSD, seen if mask is None else mask, scale=scale, cap=cap)
    return F.scaled_dot_product_attention(
        q_BHTD,
        k_BKSD,
        v_BKSD,
        attn_mask=mask,
        is_causal=mask is None and count > 1,
        scale=scale,
        enable_gqa=q_BHTD.shape[1] != k_BKSD.shape[1],
    )
