"""A figure of a set of items, how sure it is, and whether two models differ in it.

In:  a row of numbers for each item; the figure is a function of their sum, so that shares, means, bits per byte
     and BLEU are one thing.

    share right        rows (1, 1) or (0, 1)         sum 0 / sum 1
    bits per byte      rows (bits, bytes)            sum 0 / sum 1
    BLEU               rows of n-gram counts         sacrebleu's formula

Out: Estimate, with a 95 % interval: Wilson's for shares, else the bootstrap's over items. Comparison, of two models on
     the same items: McNemar's exact test for shares, else a permutation test that swaps the models item by item.

Everything random is seeded: the same rows give the same figures. Sources: B. Efron, "Bootstrap methods" (Annals of
Statistics 7, 1979); E. W. Noreen, "Computer-intensive methods for testing hypotheses" (1989).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ownlm.evaluation.statistics import Share, Z, mcnemar

Floats = NDArray[np.float64]
Row = tuple[float, ...]
# Sums [..., k] to figures [...].
Figure = Callable[[Floats], Floats]
Verdict = Literal["better", "worse", "different", "no evidence"]

RESAMPLES = 2_000
PERMUTATIONS = 10_000
SIGNIFICANT = 0.05
_SEED = 0
_MOST_NUMBERS = 2**22
# The 80 % point of the normal distribution: a test of so many items finds a difference of this size four times of five.
_POWER = 0.8416212335729143


def ratio(sums: Floats) -> Floats:
    return np.asarray(sums[..., 0] / sums[..., 1])


@dataclass(frozen=True, kw_only=True)
class Metric:
    """`better`: None where neither way is. `chance`: what knowing nothing gives, if that can be said.

    A `share` has rows (1, 1) and (0, 1).
    """

    name: str
    figure: Figure = ratio
    better: Literal["higher", "lower"] | None = "higher"
    share: bool = False
    chance: float | None = None

    def __call__(self, rows: Floats) -> float:
        return float(self.figure(rows.sum(0)))


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """`interval`: 95 %; None where too few items say nothing of it. `n` items counted, `missing` ones not."""

    metric: Metric
    n: int
    missing: int
    value: float
    interval: tuple[float, float] | None

    @property
    def against_chance(self) -> Literal["at chance", "above chance", "below chance"] | None:
        """Does the interval hold what chance gives?"""
        if self.metric.chance is None or self.interval is None:
            return None
        low, high = self.interval
        if low <= self.metric.chance <= high:
            return "at chance"
        return "above chance" if low > self.metric.chance else "below chance"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Of one model against another, on the `n` items that both answered.

    `difference` is the first's figure less the other's. `enough`: about how many items would show a difference of this
    size four times of five; None where it shows already, or where there is none.
    """

    metric: Metric
    n: int
    other: float
    difference: float
    interval: tuple[float, float] | None
    p: float
    verdict: Verdict
    enough: int | None


def estimate(metric: Metric, rows: Sequence[Row | None]) -> Estimate:
    """A missing row counts as missing, never as nothing."""
    given = np.array([row for row in rows if row is not None], dtype=np.float64)
    missing = len(rows) - len(given)
    if not len(given):
        return Estimate(metric=metric, n=0, missing=missing, value=math.nan, interval=None)
    interval: tuple[float, float] | None = None
    if metric.share:
        interval = Share(round(given[:, 0].sum()), len(given)).interval
    elif len(given) > 1:
        interval = _middle(metric.figure(_resampled(given)))
    return Estimate(metric=metric, n=len(given), missing=missing, value=metric(given), interval=interval)


def compare(metric: Metric, rows: Sequence[Row | None], other_rows: Sequence[Row | None]) -> Comparison | None:
    """None where there is no item that both answered."""
    pairs = [(a, b) for a, b in zip(rows, other_rows, strict=True) if a is not None and b is not None]
    if not pairs:
        return None
    ours, theirs = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    value, other = metric(ours), metric(theirs)
    difference, n = value - other, len(pairs)
    both = np.concatenate([ours, theirs], axis=1)
    drawn = _resampled(both)
    width = ours.shape[1]
    differences = metric.figure(drawn[:, :width]) - metric.figure(drawn[:, width:])
    if metric.share:
        p = mcnemar(*((side[:, 0] > 0).tolist() for side in (theirs, ours)))
    else:
        p = _permutation(metric, ours, theirs)
    verdict: Verdict = "no evidence"
    if p < SIGNIFICANT:
        higher = difference > 0
        verdict = (
            "different" if metric.better is None else "better" if higher == (metric.better == "higher") else "worse"
        )
    enough = None
    if verdict == "no evidence" and difference:
        spread = float(np.nanstd(differences))
        needed = n * ((Z + _POWER) * spread / abs(difference)) ** 2
        # At least one more: these were not enough.
        enough = max(n + 1, math.ceil(needed)) if math.isfinite(needed) else None
    return Comparison(
        metric=metric,
        n=n,
        other=other,
        difference=difference,
        interval=_middle(differences) if n > 1 else None,
        p=p,
        verdict=verdict,
        enough=enough,
    )


def _resampled(rows: Floats) -> Floats:
    """Sums [RESAMPLES, k] of rows drawn with replacement, as many as there are."""
    random, n = np.random.default_rng(_SEED), len(rows)
    chances = np.full(n, 1 / n)
    return np.concatenate([random.multinomial(n, chances, size) @ rows for size in _parts(RESAMPLES, n)])


def _permutation(metric: Metric, ours: Floats, theirs: Floats) -> float:
    """How often chance alone, swapping the two models' rows at will, gives a difference at least as large."""
    random = np.random.default_rng(_SEED)
    middle, half = (ours + theirs).sum(0) / 2, (ours - theirs) / 2
    observed, as_large = abs(metric(ours) - metric(theirs)), 0
    for size in _parts(PERMUTATIONS, len(ours)):
        swung = random.choice((-1.0, 1.0), (size, len(ours))) @ half
        swapped = metric.figure(middle + swung) - metric.figure(middle - swung)
        # Two sums of the same numbers in another order are the same.
        as_large += int(np.count_nonzero(np.abs(swapped) >= observed * (1 - 1e-9)))
    return (1 + as_large) / (1 + PERMUTATIONS)


def _parts(total: int, width: int) -> Iterator[int]:
    """`total` in pieces of which each, times `width`, fits into memory."""
    piece = max(1, _MOST_NUMBERS // width)
    for first in range(0, total, piece):
        yield min(piece, total - first)


def _middle(values: Floats) -> tuple[float, float] | None:
    """What 95 % of the values lie between; None where all are alike, which says nothing of other items."""
    low, high = np.nanquantile(values, (0.025, 0.975))
    return (float(low), float(high)) if low < high else None
