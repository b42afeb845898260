"""Texts read piece by piece through the engine's cache, with the scores of every token: what parity tests compare."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ownlm.engine.attend import Span, StepAttention
from ownlm.engine.blocks import BLOCK
from ownlm.engine.paged_cache import PagedCache
from ownlm.model import Decoder


class CachedTexts:
    """`lengths` may be set back: the next piece then goes on from there.

    `scattered`: each text's blocks lie among the others', else side by side.
    """

    def __init__(self, model: Decoder, texts: int, *, most: int, scattered: bool = True) -> None:
        self.model, self.lengths = model, [0] * texts
        each = -(-most // BLOCK)
        self.cache = PagedCache(model.config, blocks=texts * each, device=model.device, dtype=torch.float32)
        for pool in (self.cache.keys, self.cache.values):
            pool.fill_(torch.nan)  # memory as it may come
        numbers = list(range(texts * each))
        self.blocks = [
            numbers[text::texts] if scattered else numbers[text * each : (text + 1) * each] for text in range(texts)
        ]

    @torch.inference_mode()
    def read(self, pieces: Sequence[Sequence[int]]) -> list[Tensor]:
        """Scores [T, V] of the next piece of every text, all in one step."""
        tokens = [id for piece in pieces for id in piece]
        firsts = list(self.lengths)
        self.lengths = [first + len(piece) for first, piece in zip(firsts, pieces, strict=True)]
        spans = [
            Span(count=len(piece), length=length, blocks=blocks)
            for piece, length, blocks in zip(pieces, self.lengths, self.blocks, strict=True)
            if piece
        ]
        positions = [p for first, length in zip(firsts, self.lengths, strict=True) for p in range(first, length)]
        lengths = [length for piece, length in zip(pieces, self.lengths, strict=True) for _ in piece]
        hidden = self.model.hidden(
            torch.tensor([tokens]),
            torch.tensor([positions]),
            cache=StepAttention(self.cache, spans),
            lengths_BT=torch.tensor([lengths]),
        )
        return list(self.model.head(hidden[0]).split([len(piece) for piece in pieces]))


def in_pieces(model: Decoder, ids_BT: Tensor, sizes: Sequence[int]) -> Tensor:
    """Scores [B, T, V] of texts read in pieces of these sizes."""
    texts = CachedTexts(model, len(ids_BT), most=ids_BT.shape[1])
    parts = [torch.stack(texts.read(piece.tolist())) for piece in ids_BT.split(list(sizes), dim=1)]
    return torch.cat(parts, 1)
