"""A loss is a sum and a count; only the loop divides.

So gradient accumulation, packing and data parallelism cannot change the result: sums and counts of
micro-batches add up to those of the whole batch, whatever the split.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ownlm.model import Decoder
from ownlm.train.batch import IGNORE, Batch


@dataclass(frozen=True)
class LossSum:
    """Sum of a loss over `count` targets, in nats. A micro-batch without targets is (0, 0)."""

    total: Tensor
    count: Tensor


def token_loss(model: Decoder, batch: Batch, *, compact: bool) -> LossSum:
    """Cross-entropy of every target that is not IGNORE.

    `compact` leaves out the head's work for positions without a target: it wins when most have none
    (conversations), and costs a copy when all have one (and a fixed shape, which compilers like).
    """
    hidden_BTE = model.hidden(batch.tokens_BT, batch.positions_BT, batch.documents_BT)
    wanted_BT = batch.targets_BT != IGNORE
    count = wanted_BT.sum()
    if compact:
        logits_NV, targets_N = model.head(hidden_BTE[wanted_BT]), batch.targets_BT[wanted_BT]
    else:
        logits_NV, targets_N = model.head(hidden_BTE.flatten(0, 1)), batch.targets_BT.flatten()
    # The sum over no target is 0, where the mean would be NaN.
    wide = logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
    total = F.cross_entropy(wide, targets_N, ignore_index=IGNORE, reduction="sum")
    return LossSum(total, count)
