"""Who may see whom: booleans [B, 1, T, S], query t, key s.

causal        window of 3      packed: documents 0 0 1 1
1 . . .       1 . . .          1 . . .
1 1 . .       1 1 . .          1 1 . .
1 1 1 .       1 1 1 .          . . 1 .
1 1 1 1       . 1 1 1          . . 1 1
"""

import torch
from torch import Tensor


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
