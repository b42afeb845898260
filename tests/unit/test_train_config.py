"""What a recipe's train section refuses, and the schedule that follows from it."""

import pytest

from ownlm.errors import OwnlmError
from ownlm.train.config import TrainConfig
from ownlm.train.schedule import ScheduleConfig, rate_factor


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"minutes": 0.0},
        {"minutes": float("nan")},
        {"minutes": float("inf")},
        {"steps": 3, "minutes": 1.0},
        {"rows": 0},
        {"context": 0},
        {"micro_rows": -1},
        {"rows": 10**9},
        {"evaluations": -1},
        {"samples": 10**9},
        {"snapshots": 10**9},
        {"precision": "float16"},
        {"compile": "maybe"},
    ],
)
def test_impossible_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(OwnlmError, match=next(iter(wrong))):
        TrainConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"warmup": 0.6, "decay": 0.6}, {"warmup": -0.1}, {"decay": -0.1}, {"final": 2.0}, {"final": -0.1}]
)
def test_impossible_schedules_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OwnlmError):
        ScheduleConfig(**wrong)


def test_warm_up_hold_decay() -> None:
    config = ScheduleConfig(warmup=0.2, decay=0.4, final=0.0)
    factors = [rate_factor(config, step, 10) for step in range(10)]
    assert factors == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5])


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
def test_every_step_of_every_length_has_a_rate(steps: int) -> None:
    for warmup, decay in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.02, 0.5), (0.5, 0.5)):
        config = ScheduleConfig(warmup=warmup, decay=decay, final=0.1)
        factors = [rate_factor(config, step, steps) for step in range(steps)]
        assert all(0 < factor <= 1 for factor in factors)
        peak = factors.index(max(factors))
        assert factors == sorted(factors[: peak + 1]) + sorted(factors[peak + 1 :], reverse=True)
