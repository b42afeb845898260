"""From tokenised documents to rows of equal length: a pure function of (seed, row number).

    documents, shuffled by (seed, epoch)   [d3 d3 d3 d3][d0 d0][d2 d2 d2 d2 d2 d2][d1 ...
    one stream, cut every `context` tokens |............|............|............|
    rows, shuffled by (seed, epoch)              2            0            1

Nothing is dropped but the last short row of an epoch, whose tokens the next epoch's order moves elsewhere.
A row needs no state to be found again, so a run resumes exactly from its step alone.
"""

import numpy as np
import torch

from ownlm.corpus.shards import TokenDocuments
from ownlm.train.batch import IGNORE, Batch

# Orders of documents and of rows draw from random streams of their own.
_DOCUMENT_ORDER, _ROW_ORDER = 1, 2


class DocumentRows:
    """Rows of next-token prediction, `context` tokens each."""

    def __init__(self, documents: TokenDocuments, *, context: int, seed: int) -> None:
        self.documents, self.context, self.seed = documents, context, seed
        # The last token of a row is target only: the next row starts with it.
        self.rows_per_epoch = max(1, (int(documents.starts[-1]) - 1) // context)
        self._epoch = -1

    def batch(self, first_row: int, rows: int) -> Batch:
        """Rows number `first_row` ... counted from the run's start, over as many epochs as it takes."""
        tokens = np.full((rows, self.context + 1), 0, dtype=np.int64)
        numbers = np.full((rows, self.context + 1), -1, dtype=np.int64)
        for row in range(rows):
            epoch, index = divmod(first_row + row, self.rows_per_epoch)
            self._prepare(epoch)
            self._read(int(self._row_order[index]) * self.context, tokens[row], numbers[row])
        return next_token_batch(tokens, numbers)

    def _prepare(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        order = np.random.default_rng((self.seed, epoch, _DOCUMENT_ORDER))
        self._order = order.permutation(len(self.documents))
        self._ends = np.cumsum(np.diff(self.documents.starts)[self._order])
        rows = np.random.default_rng((self.seed, epoch, _ROW_ORDER))
        self._row_order = rows.permutation(self.rows_per_epoch)
        self._epoch = epoch

    def _read(self, start: int, tokens: np.ndarray, numbers: np.ndarray) -> None:
        """Fill one row from place `start` of the shuffled stream; a text shorter than a row leaves -1."""
        place = int(np.searchsorted(self._ends, start, side="right"))
        filled = 0
        while filled < len(tokens) and place < len(self._order):
            stop = int(self.documents.starts[self._order[place] + 1])
            begin = stop - (int(self._ends[place]) - start)
            piece = self.documents.read(begin, min(stop, begin + len(tokens) - filled))
            tokens[filled : filled + len(piece)] = piece
            numbers[filled : filled + len(piece)] = place
            start, filled, place = start + len(piece), filled + len(piece), place + 1


def next_token_batch(tokens: np.ndarray, numbers: np.ndarray) -> Batch:
    """[B, T + 1] tokens and document numbers (-1: padding) into inputs and targets.

    Nothing is predicted across a document's border.
    """
    inside = (numbers[:, 1:] == numbers[:, :-1]) & (numbers[:, 1:] >= 0)
    targets = np.where(inside, tokens[:, 1:], IGNORE)
    documents = np.ascontiguousarray(numbers[:, :-1])
    return Batch(
        tokens_BT=torch.from_numpy(np.ascontiguousarray(tokens[:, :-1])),
        targets_BT=torch.from_numpy(targets),
        positions_BT=torch.from_numpy(restarted_positions(documents)),
        documents_BT=torch.from_numpy(documents),
    )


def restarted_positions(documents: np.ndarray) -> np.ndarray:
    """Position of each token within its document's piece of the row: 0 at every change of number."""
    index = np.broadcast_to(np.arange(documents.shape[1]), documents.shape)
    starts = np.zeros_like(index)
    starts[:, 1:] = np.where(documents[:, 1:] != documents[:, :-1], index[:, 1:], 0)
    return np.ascontiguousarray(index - np.maximum.accumulate(starts, axis=1))
