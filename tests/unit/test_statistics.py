"""Intervals and paired comparisons against figures worked out elsewhere."""

import math

import pytest

from ownlm.evaluation.statistics import Share, mcnemar


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_interval(right: int, n: int, low: float, high: float) -> None:
    # 81 of 263: the example of Newcombe (1998); the others by hand.
    assert Share(right, n).interval == pytest.approx((low, high), abs=1e-4)


def test_a_share_of_nothing() -> None:
    assert math.isnan(Share(0, 0).share)
    assert Share(0, 0).interval == (0.0, 1.0)
    assert str(Share(0, 0)) == "nothing asked"
    assert str(Share(9, 10)).startswith("9 of 10 (90%")


def test_mcnemar() -> None:
    assert mcnemar([True] * 5, [True] * 5) == 1.0
    # Ten changes, all for the better: 2 / 2**10.
    assert mcnemar([False] * 10 + [True], [True] * 11) == pytest.approx(2 / 1024)
    assert mcnemar([False, True], [True, False]) == 1.0
