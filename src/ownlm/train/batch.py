"""What one step reads: tokens, the targets one place to the right, and where documents part.

documents  a a a b b b b c        (packed: no token sees another document)
positions  0 1 2 0 1 2 3 0        (restarted, so a document reads as if it stood alone)
tokens     the cat <end> it ran off <end> so
targets    cat <end> -   ran off <end> -  on       `-` is IGNORE
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# cross_entropy's own default for "no target here".
IGNORE = -100


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Each [B, T] of int64; the document's number is -1 where a row ends in padding. `rows` is the number of rows."""

    tokens_BT: Tensor
    targets_BT: Tensor
    positions_BT: Tensor
    documents_BT: Tensor

    @property
    def rows(self) -> int:
        return self.tokens_BT.shape[0]

    def to(self, device: torch.device) -> "Batch":
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})

    def split(self, rows: int) -> list["Batch"]:
        """Micro-batches of at most `rows` rows; none is dropped, the last may be smaller."""
        pieces = {name: tensor.split(rows) for name, tensor in vars(self).items()}
        count = len(pieces["tokens_BT"])
        return [Batch(**{name: pieces[name][index] for name in pieces}) for index in range(count)]

    def trimmed(self) -> "Batch":
        """Without the columns at the end that are padding in every row: nobody sees them, and they cost as others."""
        end = int((self.documents_BT >= 0).any(dim=0).sum())
        return Batch(**{name: tensor[:, : max(end, 1)] for name, tensor in vars(self).items()})
