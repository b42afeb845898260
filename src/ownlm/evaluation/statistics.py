"""How sure a share is: intervals and comparisons that small exams need.

In:  counts of right answers. Out: Share with a 95 % interval; the probability that a before/after difference is chance.

Sources: the score interval, E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
Journal of the American Statistical Association 22 (1927); McNemar's exact test, Psychometrika 12 (1947).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# The 97.5 % point of the normal distribution: two-sided 95 %.
Z = 1.959963984540054


@dataclass(frozen=True)
class Share:
    """`right` of `n`."""

    right: int
    n: int

    def __post_init__(self) -> None:
        assert 0 <= self.right <= self.n, f"{self.right} of {self.n}"

    @property
    def share(self) -> float:
        """Between 0 and 1; not a number where nothing was asked."""
        return self.right / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval: sensible also at 0 of n and n of n, where the usual one has no width."""
        if not self.n:
            return (0.0, 1.0)
        spread = Z * Z / self.n
        centre = (self.share + spread / 2) / (1 + spread)
        half = Z * math.sqrt(self.share * (1 - self.share) / self.n + spread / (4 * self.n)) / (1 + spread)
        return (max(0.0, centre - half), min(1.0, centre + half))

    def __str__(self) -> str:
        if not self.n:
            return "nothing asked"
        low, high = self.interval
        return f"{self.right} of {self.n} ({self.share:.0%}, 95 % interval {low:.0%} to {high:.0%})"


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Two-sided exact probability that the same questions change so unevenly by chance alone."""
    assert len(before) == len(after), "before and after must be answers to the same questions"
    gained = sum(not old and new for old, new in zip(before, after, strict=True))
    lost = sum(old and not new for old, new in zip(before, after, strict=True))
    changed = gained + lost
    if not changed:
        return 1.0
    tail = sum(math.comb(changed, k) for k in range(min(gained, lost) + 1))
    return min(1.0, float(2 * tail / (1 << changed)))


def sole_best(scores: Sequence[float]) -> int | None:
    """The place of the largest; None where several are: a tie is nobody's."""
    best = max(scores)
    return scores.index(best) if scores.count(best) == 1 else None
