"""Estimates and comparisons: against theory and against each other, and the same every time."""

import math

import numpy as np
import pytest

from ownlm.evaluation.metric import Metric, Row, compare, estimate
from ownlm.evaluation.statistics import Share, mcnemar

SHARE = Metric(name="acc", share=True, chance=0.5)
MEAN = Metric(name="mean")
RANDOM = np.random.default_rng(7)


def shares(*right: int) -> list[Row | None]:
    return [(float(one), 1.0) for one in right]


def means(values: "np.ndarray") -> list[Row | None]:
    return [(float(value), 1.0) for value in values]


def test_a_share_has_wilsons_interval_and_missing_items_do_not_count() -> None:
    found = estimate(SHARE, [*shares(1, 1, 0), None])
    assert (found.n, found.missing, found.value) == (3, 1, pytest.approx(2 / 3))
    assert found.interval == Share(2, 3).interval
    nothing = estimate(SHARE, [None, None])
    assert nothing.n == 0 and math.isnan(nothing.value) and nothing.interval is None


def test_the_bootstrap_agrees_with_theory_and_with_itself() -> None:
    values = RANDOM.normal(3, 2, 400)
    found = estimate(MEAN, means(values))
    half = 1.96 * values.std() / 20
    assert found.interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)
    assert estimate(MEAN, means(values)) == found
    assert estimate(MEAN, means(values[:1])).interval is None
    # Items that are all alike say nothing of those that are not.
    assert estimate(MEAN, means(np.zeros(30))).interval is None


def test_a_ratio_is_of_sums_not_a_mean_of_ratios() -> None:
    assert estimate(MEAN, [(1.0, 1.0), (1.0, 9.0)]).value == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("right", "said"), [(52, "at chance"), (70, "above chance"), (30, "below chance"), (100, "above chance")]
)
def test_chance_is_named_where_the_interval_holds_it(right: int, said: str) -> None:
    assert estimate(SHARE, shares(*[1] * right, *[0] * (100 - right))).against_chance == said


def test_shares_are_compared_by_mcnemar() -> None:
    ours, theirs = [1] * 30 + [0] * 10, [1] * 10 + [0] * 30
    found = compare(SHARE, shares(*ours), shares(*theirs))
    assert found is not None and found.verdict == "better" and found.enough is None
    assert found.p == mcnemar([bool(one) for one in theirs], [bool(one) for one in ours])
    back = compare(SHARE, shares(*theirs), shares(*ours))
    assert back is not None and back.verdict == "worse" and back.difference == pytest.approx(-0.5)


def test_items_that_one_model_lacks_are_left_out_of_both() -> None:
    found = compare(SHARE, [None, *shares(1, 0)], [*shares(1), None, *shares(0)])
    assert found is not None and (found.n, found.difference) == (1, 0)
    assert compare(SHARE, [None], shares(1)) is None


def test_a_small_difference_is_no_evidence_and_says_how_many_items_it_would_take() -> None:
    noise = RANDOM.normal(0, 1, 100)
    noise -= noise.mean()
    found = compare(MEAN, means(noise + 0.1), means(np.zeros(100)))
    assert found is not None and found.verdict == "no evidence" and found.p > 0.05
    # ((1.96 + 0.84) * sd / difference) ** 2, sd about 1.
    assert found.enough == pytest.approx(785 * noise.std() ** 2, rel=0.1)
    many = RANDOM.normal(0.1, 1, 4 * found.enough)
    again = compare(MEAN, means(many), means(np.zeros(len(many))))
    assert again is not None and again.verdict == "better"


def test_the_permutation_test_is_fair() -> None:
    """Of two models that do not differ, about one comparison in twenty says that they do."""
    found = [compare(MEAN, means(RANDOM.normal(0, 1, 25)), means(RANDOM.normal(0, 1, 25))) for _ in range(40)]
    assert sum(one is not None and one.verdict != "no evidence" for one in found) <= 7


def test_models_that_answer_alike_do_not_differ() -> None:
    values = means(RANDOM.normal(0, 1, 20))
    found = compare(MEAN, values, values)
    assert found is not None and (found.p, found.verdict, found.enough) == (1.0, "no evidence", None)


@pytest.mark.parametrize(("better", "verdict"), [("lower", "worse"), ("higher", "better"), (None, "different")])
def test_what_is_better_is_the_metrics_to_say(better: object, verdict: str) -> None:
    metric = Metric(name="m", better=better)  # type: ignore[arg-type]
    found = compare(metric, means(np.full(30, 2.0) + RANDOM.normal(0, 0.1, 30)), means(np.ones(30)))
    assert found is not None and found.verdict == verdict
