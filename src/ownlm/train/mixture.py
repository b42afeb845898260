"""Two streams of rows as one: the second's rows lie evenly among the first's.

    main    m0 m1 m2 m3 m4 m5 ...          share 0.25:   m0 m1 m2 r0 m3 m4 m5 r1 ...
    replay  r0 r1 ...

Text as the model knew it before keeps it from forgetting (arXiv:2403.08763 finds a few percent to be enough). Which row
comes where is a function of its number, so a run that was stopped goes on exactly.
"""

from collections.abc import Sequence

import torch

from ownlm.train.batch import Batch
from ownlm.train.conversations import ConversationRows
from ownlm.train.loop import Rows
from ownlm.train.render import Example


class MixedRows:
    def __init__(self, main: Rows, replay: Rows, share: float) -> None:
        assert 0 < share < 1
        self.main, self.replay, self.share = main, replay, share

    def is_replay(self, row: int) -> bool:
        return self._before(row + 1) > self._before(row)

    def batch(self, first_row: int, rows: int) -> Batch:
        picked = []
        for row in range(first_row, first_row + rows):
            before = self._before(row)
            picked.append(self.replay.batch(before, 1) if self.is_replay(row) else self.main.batch(row - before, 1))
        return Batch(**{name: torch.cat([getattr(one, name) for one in picked]) for name in vars(picked[0])})

    def _before(self, row: int) -> int:
        """Rows of replay before `row`."""
        return int(row * self.share)


def tuning_rows(
    examples: Sequence[Example], replayed: Sequence[Example], *, share: float, context: int, seed: int
) -> Rows:
    """What a tuning run reads: `examples`, and where there are such, of `replayed` a share of the rows."""
    rows = ConversationRows(examples, context=context, seed=seed)
    if not replayed:
        return rows
    return MixedRows(rows, ConversationRows(replayed, context=context, seed=seed), share)
