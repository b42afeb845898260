"""Learning rate over a run: warm up, hold, decay to nothing (WSD, arXiv:2404.06395).

    1 |   ________________
      |  /                \\
      | /                  \\
    0 |/____________________\\__ step
       warmup    stable    decay

The rate depends on the step alone, so a resumed run cannot start the schedule anew.
"""

from dataclasses import dataclass

from ownlm.errors import OwnlmError


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Shares of the run's steps. `final` is the factor that the decay would reach one step after the last."""

    warmup: float = 0.02
    decay: float = 0.7
    final: float = 0.0

    def __post_init__(self) -> None:
        if not (self.warmup >= 0 and self.decay >= 0 and self.warmup + self.decay <= 1):
            raise OwnlmError(
                f"warmup ({self.warmup}) and decay ({self.decay}) are shares of a run and add up to at most 1"
            )
        if not 0 <= self.final <= 1:
            raise OwnlmError(f"final is a factor between 0 and 1, got {self.final}")


def rate_factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """Factor on every learning rate for step 0 <= `step` < `steps`."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    decay = round(config.decay * steps)
    left = steps - step
    if left > decay:
        return 1.0
    return config.final + (1 - config.final) * left / (decay + 1)
