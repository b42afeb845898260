"""The sampler on numbers that one can work out by hand."""

import math

import pytest
import torch

from ownlm.engine import Sampling
from ownlm.engine.sampler import choose, penalise_repetition, probabilities
from ownlm.errors import OwnlmError
from ownlm.opened import make_sampling

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0])
NONE_SEEN = torch.tensor([], dtype=torch.long)


def drawn(count: int = 300, logits: torch.Tensor = LOGITS, **settings: float) -> set[int]:
    generator = torch.Generator().manual_seed(0)
    return {choose(logits, Sampling(**settings), NONE_SEEN, generator) for _ in range(count)}


def test_temperature() -> None:
    weights = [math.exp(logit / 0.5) for logit in LOGITS.tolist()]
    expected = [weight / sum(weights) for weight in weights]
    assert probabilities(LOGITS, Sampling(temperature=0.5)).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"top_k": 1},
        {"top_p": 1e-9},
        {"min_p": 0.999},
        {"temperature": 1e-5},
        {"temperature": 1e-300},
    ],
)
def test_all_that_leaves_only_the_best(settings: dict[str, float]) -> None:
    assert drawn(**settings) == {0}


def test_the_cuts_by_hand() -> None:
    # Chances are 0.644, 0.237, 0.087, 0.032.
    assert drawn(temperature=1.0) == {0, 1, 2, 3}
    assert drawn(temperature=1.0, top_k=2) == {0, 1}
    assert drawn(temperature=1.0, top_k=99) == {0, 1, 2, 3}
    assert drawn(temperature=1.0, top_p=0.65) == {0, 1}
    assert drawn(temperature=1.0, top_p=0.64) == {0}
    assert drawn(temperature=1.0, min_p=0.1) == {0, 1, 2}
    assert drawn(temperature=1.0, min_p=0.2) == {0, 1}
    # top-k first: among the two that stay the chances are 0.731 and 0.269.
    assert drawn(temperature=1.0, top_k=2, top_p=0.7) == {0}
    assert probabilities(LOGITS, Sampling(temperature=1.0, top_k=2)).tolist() == pytest.approx(
        [0.7311, 0.2689, 0, 0], abs=1e-4
    )


def test_repetition_penalty_by_hand() -> None:
    logits = torch.tensor([3.0, -2.0, 0.0, 1.0])
    seen = torch.tensor([0, 1, 1, 2, 0])
    assert penalise_repetition(logits, seen, 2.0).tolist() == [1.5, -4.0, 0.0, 1.0]
    assert penalise_repetition(logits, seen, 0.5).tolist() == [6.0, -1.0, 0.0, 1.0]
    assert logits.tolist() == [3.0, -2.0, 0.0, 1.0], "the model's own numbers stay"
    generator = torch.Generator()
    assert choose(logits, Sampling(temperature=0, repetition_penalty=4.0), torch.tensor([0]), generator) == 3
    assert choose(logits, Sampling(temperature=0, repetition_penalty=4.0), NONE_SEEN, generator) == 0


def test_frequencies_are_the_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.bincount(
        torch.tensor([choose(LOGITS, Sampling(temperature=1.0), NONE_SEEN, generator) for _ in range(4000)])
    )
    for share, chance in zip((counts / 4000).tolist(), LOGITS.softmax(-1).tolist(), strict=True):
        assert share == pytest.approx(chance, abs=0.03)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"min_p": 1.0},
        {"repetition_penalty": 0.0},
        {"stop": ("",)},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(OwnlmError, match=next(iter(wrong))):
        make_sampling(wrong)


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(OwnlmError, match=r"'temprature'.*temperature"):
        make_sampling({"temprature": 1})
    assert make_sampling({"stop": "end"}).stop == ("end",)
