"""One optimizer step: forward and backward over micro-batches, one division, clip, update.

    for each micro-batch: sum of losses ──▶ gradients add up ;  count of targets adds up
    gradients / total count ──▶ clip to a norm ──▶ finite? update : skip and say so

Gradients are divided once, by the number of targets of the whole step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ownlm.model import Decoder
from ownlm.model.lora import LoraAdapter, adapted
from ownlm.train.batch import Batch
from ownlm.train.loss import LossSum, token_loss
from ownlm.train.optim import OptimizerConfig, Optimizers

Objective = Callable[[Decoder, Batch], LossSum]


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """loss is nats a target; `updated` is False when the step was skipped: no target, or not finite."""

    loss: float
    grad_norm: float
    targets: int
    updated: bool


def make_objective(*, compact: bool, compiled: bool) -> Objective:
    """The next-token loss as one function of (model, batch)."""

    def objective(model: Decoder, batch: Batch) -> LossSum:
        # A compiled function wants one shape.
        return token_loss(model, batch if compiled else batch.trimmed(), compact=compact)

    return torch.compile(objective, dynamic=False) if compiled else objective


def accumulate(
    model: Decoder, batch: Batch, objective: Objective, *, micro_rows: int, precision: str
) -> tuple[float, int]:
    """Add the gradients of the SUM of losses over `batch` to the parameters; returns (sum, targets)."""
    total, targets = 0.0, 0
    for micro in batch.split(micro_rows or batch.rows):
        low = precision == "bfloat16"
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=low):
            loss = objective(model, micro.to(model.device))
        loss.total.backward()  # type: ignore[no-untyped-call]
        total += float(loss.total.detach())
        targets += int(loss.count)
    return total, targets


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A model with all that changes it. `micro_rows` go through at once (0: all); `clip` is the gradient's norm.

    `trained` holds the parameters that are changed: the model's own, or those of an adapter that stands beside it.
    """

    model: Decoder
    trained: nn.Module
    optimizers: Optimizers
    objective: Objective
    micro_rows: int = 0
    precision: str = "float32"
    clip: float = 1.0

    @classmethod
    def of(
        cls,
        model: Decoder,
        optimizer: OptimizerConfig,
        *,
        trained: nn.Module | None = None,
        precision: str = "float32",
        micro_rows: int = 0,
        compact: bool = False,
        compiled: bool = False,
    ) -> "Learner":
        """A learner of the next token, as a plan says."""
        muon_dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        return cls(
            model=model,
            trained=trained or model,
            optimizers=Optimizers(trained or model, optimizer, muon_dtype=muon_dtype),
            objective=make_objective(compact=compact, compiled=compiled),
            micro_rows=micro_rows,
            precision=precision,
            clip=optimizer.clip,
        )

    def step(self, batch: Batch) -> StepResult:
        """Update the model by one batch."""
        adapter = self.trained if isinstance(self.trained, LoraAdapter) else None
        # The backward pass too: it may compute layers again, and for each update B is parted anew.
        with adapted(self.model, [(slice(None), adapter)] if adapter else []):
            total, targets = accumulate(
                self.model, batch, self.objective, micro_rows=self.micro_rows, precision=self.precision
            )
        gradients = [parameter.grad for parameter in self.trained.parameters() if parameter.grad is not None]
        if targets:
            torch._foreach_div_(gradients, targets)
        norm = float(torch.nn.utils.clip_grad_norm_(self.trained.parameters(), self.clip))
        updated = targets > 0 and norm < float("inf")
        if updated:
            self.optimizers.step()
        self.optimizers.zero_grad()
        loss = total / targets if targets else 0.0
        return StepResult(loss=loss, grad_norm=norm, targets=targets, updated=updated)
