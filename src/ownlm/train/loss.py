"""A loss is a sum and a count; only the loop divides.

So gradient accumulation, packing and data parallelism cannot change the result: sums and counts of
micro-batches add up to those of the whole batch, whatever the split.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ownlm.model import Decoder
from ownlm.train.batch import IGNORE, Batch

# Scores that are in memory at once, bytes: those of a large vocabulary would be most of what a step needs.
_SCORE_BYTES = 32 * 2**20


@dataclass(frozen=True)
class LossSum:
    """Sum of a loss over `count` targets, in nats. A micro-batch without targets is (0, 0)."""

    total: Tensor
    count: Tensor


def token_loss(model: Decoder, batch: Batch, *, compact: bool) -> LossSum:
    """Cross-entropy of every target that is not IGNORE.

    `compact` leaves out the head's work for positions without a target, and takes the others some at a time: it wins
    when most have none (conversations) or the vocabulary is large, and costs a copy when all have one (and a fixed
    shape, which compilers like).
    """
    hidden_BTE = model.hidden(batch.tokens_BT, batch.positions_BT, batch.documents_BT)
    wanted_BT = batch.targets_BT != IGNORE
    count = wanted_BT.sum()
    if compact:
        return LossSum(head_loss(model, hidden_BTE[wanted_BT], batch.targets_BT[wanted_BT]), count)
    logits_NV, targets_N = model.head(hidden_BTE.flatten(0, 1)), batch.targets_BT.flatten()
    return LossSum(_cross_entropy(logits_NV, targets_N), count)


def head_loss(model: Decoder, hidden_NE: Tensor, targets_N: Tensor, *, rows: int | None = None) -> Tensor:
    """Sum of the cross-entropy of `targets_N`, with `rows` rows of scores in memory at once (by default a few MB).

    The gradients are computed while the scores are there, so that nothing is computed twice; an idea of Liger's fused
    linear cross-entropy (arXiv:2410.10989), for whatever the head is.
    """
    rows = rows or max(16, _SCORE_BYTES // (4 * model.config.vocab_size))
    if len(targets_N) <= rows or not torch.is_grad_enabled():
        parts = zip(torch.split(hidden_NE, rows), torch.split(targets_N, rows), strict=True)
        return sum((_cross_entropy(model.head(hidden), targets) for hidden, targets in parts), hidden_NE.new_zeros(()))
    weights = model.outward.learned
    total: Tensor = _HeadLoss.apply(model, rows, hidden_NE, targets_N, *weights)  # type: ignore[no-untyped-call]
    return total


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, model: Decoder, rows: int, hidden_NE: Tensor, targets_N: Tensor, *weights: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=hidden_NE.device)
        d_hidden_NE = torch.empty_like(hidden_NE)
        d_weights = [torch.zeros_like(weight) for weight in weights]
        for first in range(0, len(targets_N), rows):
            place = slice(first, first + rows)
            with torch.enable_grad():
                hidden = hidden_NE[place].detach().requires_grad_()
                loss = _cross_entropy(model.head(hidden), targets_N[place])
            d_hidden_NE[place], *found = torch.autograd.grad(loss, [hidden, *weights])
            for sum_, part in zip(d_weights, found, strict=True):
                sum_ += part
            total += loss.detach().double()
        ctx.save_for_backward(d_hidden_NE, *d_weights)
        return total.to(torch.promote_types(hidden_NE.dtype, torch.float32))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        (d_total,) = upstream
        d_hidden_NE, *d_weights = _scaled(ctx.saved_tensors, d_total)
        return None, None, d_hidden_NE, None, *d_weights


def _scaled(gradients: Sequence[Tensor], factor: Tensor) -> list[Tensor]:
    return [gradient * factor.to(gradient.dtype) for gradient in gradients]


def _cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    # The sum over no target is 0, where the mean would be NaN.
    wide = logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
    return F.cross_entropy(wide, targets_N, ignore_index=IGNORE, reduction="sum")
