"""Who may see whom: booleans [B, 1, T, S], query t, key s.

causal        window of 3      packed: documents 0 0 1 1
1 . . .       1 . . .          1 . . .
1 1 . .       1 1 . .          1 1 . .
1 1 1 .       1 1 1 .          . . 1 .
1 1 1 1       . 1 1 1          . . 1 1
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Documents are looked at one by one where that leaves at most so much of the scores, and where they are so long on
# average: each is a call of its own.
_WORTH, _LONG = 0.75, 32


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Packed documents as they lie: (row, first token, end). Each is causal within, and sees no other."""

    places: tuple[tuple[int, int, int], ...]


def spans_of(documents_BT: Tensor, window: int | None = None) -> Spans | None:
    """None where a mask is better: nothing much is saved, a window cuts a document, or one lies in several pieces."""
    rows, tokens = documents_BT.shape
    places = []
    for row, documents in enumerate(documents_BT):
        numbers, lengths = documents.unique_consecutive(return_counts=True)
        if len(numbers) != len(numbers.unique()):
            return None
        ends = lengths.cumsum(0).tolist()
        places += [(row, first, end) for first, end in zip([0, *ends], ends, strict=False)]
    longest = max(end - first for _, first, end in places)
    seen = sum((end - first) ** 2 for _, first, end in places)
    if seen > _WORTH * rows * tokens**2 or rows * tokens < _LONG * len(places):
        return None
    return None if window is not None and longest > window else Spans(places=tuple(places))


def causal_mask(count: int, window: int | None, device: torch.device) -> Tensor:
    """[1, 1, T, T] of one sequence read at once."""
    seen_TS = torch.ones(count, count, dtype=torch.bool, device=device).tril()
    return within(seen_TS, window)[None, None]


def packed_mask(documents_BT: Tensor, window: int | None = None) -> Tensor:
    """Causal, and never from one packed document into another: [B, 1, T, T]."""
    same_BTS = documents_BT.unsqueeze(2) == documents_BT.unsqueeze(1)
    return within(same_BTS.tril(), window).unsqueeze(1)


def within(seen_TS: Tensor, window: int | None) -> Tensor:
    """Of what is seen, the last `window` keys of each query; the last query stands at the last key."""
    if window is None:
        return seen_TS
    queries, keys = seen_TS.shape[-2:]
    # One below the diagonal that ends in the last corner, less the window.
    return seen_TS.triu(keys - queries - window + 1)
