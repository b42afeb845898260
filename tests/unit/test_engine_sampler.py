"""The sampler against probabilities worked out by hand or written again in plain Python."""

import math
import random
from collections import Counter
from typing import Any

import pytest
import torch

from ownlm.engine import Sampling
from ownlm.engine.rare_samplers import split_uniform
from ownlm.engine.sampler import Sampler, nucleus
from ownlm.errors import OwnlmError

LOGITS = [1.5, -0.5, 2.0, 0.3, -2.0, 1.1, 0.9, -1.0, 1.6, -2.5, 0.0, -math.inf]
DRAWS = 5_000
FOUR = [2.0, 1.0, 0.0, -1.0]  # chances 0.644, 0.237, 0.087, 0.032

Chances = dict[int, float]


def draw_one(logits: list[float], prompt: list[int] | None = None, **settings: Any) -> int:
    return Sampler(Sampling(**settings), prompt or []).draw(torch.tensor(logits)).token_id


def drawn(count: int, logits: list[float], **settings: Any) -> Counter[int]:
    """What `count` draws from the same logits give, with one answer's random numbers."""
    sampler = Sampler(Sampling(seed=5, **settings), [])
    logits_V = torch.tensor(logits)
    return Counter(sampler.draw(logits_V).token_id for _ in range(count))


# The cuts again, over dictionaries of id -> chance.


def scaled(chances: Chances) -> Chances:
    total = sum(chances.values())
    return {id: chance / total for id, chance in chances.items()}


def softmax(logits: list[float], temperature: float = 1.0) -> Chances:
    return scaled({id: math.exp(logit / temperature) for id, logit in enumerate(logits) if logit > -math.inf})


def until(order: list[int], chances: Chances, mass: float) -> Chances:
    kept: Chances = {}
    for id in order:
        if sum(kept.values()) < mass:
            kept[id] = chances[id]
    return scaled(kept)


def by_chance(chances: Chances) -> list[int]:
    return sorted(chances, key=lambda id: (-chances[id], id))


def top_k(chances: Chances, k: int) -> Chances:
    return scaled({id: chances[id] for id in by_chance(chances)[:k]})


def top_p(chances: Chances, p: float) -> Chances:
    return until(by_chance(chances), chances, p)


def min_p(chances: Chances, p: float) -> Chances:
    return scaled({id: chance for id, chance in chances.items() if chance >= p * max(chances.values())})


def typical(chances: Chances, p: float) -> Chances:
    entropy = -sum(chance * math.log(chance) for chance in chances.values())
    return until(sorted(chances, key=lambda id: abs(-math.log(chances[id]) - entropy)), chances, p)


def xtc(chances: Chances, probability: float, threshold: float) -> Chances:
    reach = [id for id in by_chance(chances) if chances[id] >= threshold]
    cut = scaled({id: chance for id, chance in chances.items() if id not in reach[:-1]})
    return {id: probability * cut.get(id, 0.0) + (1 - probability) * chance for id, chance in chances.items()}


PLAIN = softmax(LOGITS)
CASES: list[tuple[dict[str, Any], Chances]] = [
    ({}, PLAIN),
    ({"temperature": 0.8}, softmax(LOGITS, 0.8)),
    ({"temperature": 2.0}, softmax(LOGITS, 2.0)),
    ({"top_k": 4}, top_k(PLAIN, 4)),
    ({"top_k": 99}, PLAIN),
    ({"top_p": 0.8}, top_p(PLAIN, 0.8)),
    ({"min_p": 0.2}, min_p(PLAIN, 0.2)),
    ({"typical_p": 0.6}, typical(PLAIN, 0.6)),
    ({"xtc_probability": 1.0, "xtc_threshold": 0.12}, xtc(PLAIN, 1.0, 0.12)),
    ({"xtc_probability": 0.4, "xtc_threshold": 0.12}, xtc(PLAIN, 0.4, 0.12)),
    ({"xtc_probability": 1.0, "xtc_threshold": 0.5}, PLAIN),
    ({"mirostat": 2, "mirostat_tau": 1.3, "mirostat_eta": 0.0}, min_p(PLAIN, 2**-2.6 / max(PLAIN.values()))),
    ({"logit_bias": {2: -100, 9: 4.5}}, softmax([*LOGITS[:2], -math.inf, *LOGITS[3:9], 2.0, *LOGITS[10:]])),
    (
        {"temperature": 1.7, "top_k": 8, "typical_p": 0.95, "top_p": 0.9, "min_p": 0.3, "xtc_probability": 0.5},
        xtc(min_p(top_p(typical(top_k(softmax(LOGITS, 1.7), 8), 0.95), 0.9), 0.3), 0.5, 0.1),
    ),
]


@pytest.mark.parametrize(("settings", "expected"), CASES, ids=[",".join(settings) for settings, _ in CASES])
def test_draws_follow_the_exact_chances(settings: dict[str, Any], expected: Chances) -> None:
    counts = drawn(DRAWS, LOGITS, **{"temperature": 1.0, **settings})
    expected = {id: chance for id, chance in expected.items() if chance > 0}
    assert counts.keys() <= expected.keys(), "a token that was cut"
    assert all(chance * DRAWS > 5 for chance in expected.values()), "too few draws for this test"
    square = sum((counts[id] - chance * DRAWS) ** 2 / (chance * DRAWS) for id, chance in expected.items())
    freedom = len(expected) - 1
    # The 0.999 quantile of chi-square, by Wilson and Hilferty's approximation.
    assert square <= freedom * (1 - 2 / (9 * freedom) + 3.09 * math.sqrt(2 / (9 * freedom))) ** 3


@pytest.mark.parametrize(
    ("settings", "kept", "otherwise"),
    [
        # Chances 0.644, 0.237, 0.087, 0.032; after top-k 2: 0.731, 0.269.
        ({"top_k": 2, "top_p": 0.7}, {0}, "top-p before top-k would keep 0 and 1"),
        ({"temperature": 2.0, "top_p": 0.5}, {0, 1}, "top-p before the temperature would keep 0"),
        ({"temperature": 2.0, "min_p": 0.3}, {0, 1, 2}, "min-p before the temperature would keep 0 and 1"),
        ({"top_k": 3, "typical_p": 0.6}, {0}, "typical before top-k keeps 1 first"),
        ({"typical_p": 0.2, "top_p": 0.5}, {1}, "top-p before typical would keep 0"),
        ({"top_p": 0.6, "xtc_probability": 1.0, "xtc_threshold": 0.2}, {0}, "XTC before top-p would keep 1"),
        ({"min_p": 0.3, "xtc_probability": 1.0, "xtc_threshold": 0.2}, {1}, "XTC before min-p would keep 1 and 2"),
    ],
)
def test_the_order(settings: dict[str, Any], kept: set[int], otherwise: str) -> None:
    assert set(drawn(400, FOUR, **{"temperature": 1.0, **settings})) == kept, otherwise


@pytest.mark.parametrize(
    "settings",
    [{"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-9}, {"min_p": 0.999}, {"temperature": 1e-300}],
)
def test_all_that_leaves_only_the_best(settings: dict[str, float]) -> None:
    assert set(drawn(100, FOUR, **settings)) == {0}


def test_equals() -> None:
    even = [1.0, 3.0, 3.0, 3.0]
    assert draw_one(even, temperature=0) == 1
    assert set(drawn(200, even, temperature=1.0, top_k=1)) == {1, 2, 3}
    assert set(drawn(200, even, temperature=1.0, top_p=0.5)) == {1, 2}
    assert set(drawn(200, even, temperature=1.0, xtc_probability=1.0)) == {0, 1}


@pytest.mark.parametrize("spread", [0.0, 1.0, 6.0])
@pytest.mark.parametrize("p", [0.1, 0.9, 0.999])
def test_the_nucleus_of_a_large_vocabulary(p: float, spread: float) -> None:
    logits_V = (torch.randn(6000, generator=torch.Generator().manual_seed(1)) * spread * 4).round() / 4
    chances = {id: float(chance) for id, chance in enumerate(logits_V.double().softmax(0))}
    total, expected = 0.0, set()
    for id in by_chance(chances):
        if total >= p:
            break
        expected.add(id)
        total += chances[id]
    ours = nucleus(logits_V.softmax(0).numpy(), p).tolist()
    # float32 may count one of thousands more or less at the edge.
    assert ours == sorted(ours) and len(expected ^ set(ours)) <= 1


# Biases and penalties.


def after(tokens: list[int], logits: list[float], prompt: list[int], **settings: Any) -> list[float]:
    """The changed scores of the step after `tokens` were drawn."""
    sampler = Sampler(Sampling(**settings), prompt)
    for token in tokens:
        sampler.draw(torch.zeros(len(logits)).index_fill(0, torch.tensor([token]), 1e9))
    given = torch.tensor(logits)
    changed: list[float] = sampler._changed(given).tolist()
    assert given.tolist() == logits, "the model's own numbers stay"
    return changed


def test_penalties_by_hand() -> None:
    logits = [3.0, -2.0, 0.0, 1.0]
    assert after([], logits, [0, 1, 1, 2, 0, 77], repetition_penalty=2.0) == [1.5, -4.0, 0.0, 1.0]
    assert after([3, 3], logits, [0], repetition_penalty=0.5) == [6.0, -2.0, 0.0, 2.0]
    assert after([0, 0, 1], logits, [3, 3], frequency_penalty=0.5) == [2.0, -2.5, 0.0, 1.0]
    assert after([0, 0, 1], logits, [3, 3], presence_penalty=-0.5) == [3.5, -1.5, 0.0, 1.0]
    assert after([0, 0], logits, [], repetition_penalty=2, frequency_penalty=1, presence_penalty=0.5) == [
        -1.0,
        -2.0,
        0.0,
        1.0,
    ]
    assert after([], logits, [], logit_bias={0: -1.5, 1: 100, 2: -100}) == [1.5, 98.0, -math.inf, 1.0]
    # The bias first: -2 + 5 is positive, and divided.
    assert after([], logits, [1], logit_bias={1: 5}, repetition_penalty=2.0) == [3.0, 1.5, 0.0, 1.0]


def plain_dry(text: list[int], width: int, settings: dict[str, Any]) -> list[float]:
    """What DRY takes from every token: for each, the longest end of the text that stood before it elsewhere."""
    breakers, allowed = settings["dry_breaker_ids"], settings["dry_allowed_length"]
    taken = [0.0] * width
    for place in range(1, len(text)):
        length = 0
        while length < place and text[place - 1 - length] == text[-1 - length] and text[-1 - length] not in breakers:
            length += 1
        if length >= allowed and text[place] not in breakers:
            penalty = settings["dry_multiplier"] * settings["dry_base"] ** (length - allowed)
            taken[text[place]] = max(taken[text[place]], penalty)
    return taken


@pytest.mark.parametrize("seed", range(60))
def test_dry_as_a_plain_search(seed: int) -> None:
    random_ = random.Random(seed)
    width = random_.choice([2, 3, 6])
    settings = {
        "dry_multiplier": 0.8,
        "dry_base": random_.choice([1.0, 1.2, 1.75]),
        "dry_allowed_length": random_.randint(1, 4),
        "dry_breaker_ids": tuple(random_.sample(range(width), k=random_.randint(0, 1))),
    }
    prompt = [random_.randrange(width) for _ in range(random_.randint(0, 40))]
    answer = [random_.randrange(width) for _ in range(random_.randint(0, 80))]
    taken = [-lost for lost in after(answer, [0.0] * width, prompt, **settings)]
    assert taken == pytest.approx(plain_dry(prompt + answer, width, settings), rel=1e-5)


def test_dry_on_an_endless_repeat_stays_finite_and_quick() -> None:
    changed = after([], [0.0, 1.0], [0] * 20_000, dry_multiplier=1.0)
    assert changed == [pytest.approx(-1e30), 1.0]
    assert draw_one([0.0, -math.inf], [0] * 1000, dry_multiplier=1.0) == 0


def test_mirostat_steers_the_surprise() -> None:
    logits_V = torch.randn(500, generator=torch.Generator().manual_seed(0)) * 2
    surprise_V = -logits_V.double().log_softmax(0) / math.log(2)
    means = []
    for tau in (1.0, 2.0, 3.0):
        sampler = Sampler(Sampling(temperature=1.0, mirostat=2, mirostat_tau=tau, seed=0), [])
        assert sampler._mirostat is not None
        observed = []
        for _ in range(700):
            mu = sampler._mirostat._mu
            token = sampler.draw(logits_V).token_id
            kept_V = (surprise_V <= mu) | (surprise_V == surprise_V.min())
            observed.append(float(surprise_V[token] + surprise_V.mul(-1).exp2()[kept_V].sum().log2()))
            assert sampler._mirostat._mu == pytest.approx(mu - 0.1 * (observed[-1] - tau), abs=1e-4)
        means.append(sum(observed[100:]) / 600)
    assert means == pytest.approx([1.0, 2.0, 3.0], abs=0.1)


def test_the_end_waits_for_min_tokens_unless_nothing_else_is_allowed() -> None:
    sampler = Sampler(Sampling(temperature=0, min_tokens=2), [], end_ids=[0, 99])
    assert [sampler.draw(torch.tensor([5.0, 1.0])).token_id for _ in range(3)] == [1, 1, 0]
    sampler = Sampler(Sampling(temperature=0, min_tokens=2), [], end_ids=[0])
    assert sampler.draw(torch.tensor([5.0, -math.inf])).token_id == 0


# What is reported, and what is repeated.


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_log_probabilities_are_the_models_own(temperature: float) -> None:
    settings = {"temperature": temperature, "logit_bias": {4: 100.0}, "repetition_penalty": 2.0, "top_k": 1}
    sampler = Sampler(Sampling(logprobs=12, **settings), [2])
    result = sampler.draw(torch.tensor(LOGITS))
    exact = {id: math.log(chance) for id, chance in PLAIN.items()}
    assert result.token_id == 4 and result.logprob == pytest.approx(exact[4], abs=1e-5)
    assert [id for id, _ in result.top] == by_chance(PLAIN), "best first, none that is banned"
    assert [value for _, value in result.top] == pytest.approx([exact[id] for id, _ in result.top], abs=1e-5)
    assert (4, result.logprob) in result.top, "the identical number"


def test_as_many_log_probabilities_as_asked() -> None:
    for count in (None, 0, 1, 3):
        top = Sampler(Sampling(logprobs=count), []).draw(torch.tensor([1.0, 3.0, 3.0, 2.0])).top
        assert [id for id, _ in top] == [1, 2, 3][: count or 0]


def answer(seed: int | None, choice: int = 0, **settings: Any) -> list[int]:
    sampler = Sampler(Sampling(seed=seed, temperature=1.0, **settings), [], choice=choice)
    return [sampler.draw(torch.zeros(1000)).token_id for _ in range(8)]


def test_seeds() -> None:
    assert answer(3) == answer(3) and answer(3, choice=1) == answer(4)
    assert answer(1) != answer(-1) and answer(None) != answer(None)
    assert answer(2**63 - 1, choice=5) != answer(-(2**63) + 1)


def test_every_token_takes_one_number_whatever_the_settings() -> None:
    for settings in ({}, {"xtc_probability": 0.5}, {"mirostat": 2}, {"top_k": 3, "top_p": 0.5}):
        sampler = Sampler(Sampling(seed=0, **settings), [])
        same = random.Random(0)
        for _ in range(5):
            sampler.draw(torch.tensor(FOUR))
            same.random()
        assert sampler._random.getstate() == same.getstate()


def test_one_uniform_number_as_a_coin_and_another() -> None:
    below_one = math.nextafter(1, 0)
    assert split_uniform(0.25, 0.5) == (True, 0.5) and split_uniform(0.75, 0.5) == (False, 0.5)
    assert split_uniform(below_one, 1.0) == (True, below_one)
    for probability in (1e-300, 0.1, 1 / 3, below_one):
        for uniform in (0.0, probability, math.nextafter(probability, 0), below_one):
            assert 0 <= split_uniform(uniform, probability)[1] < 1


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_an_error(wrong: float) -> None:
    with pytest.raises(OwnlmError, match="no finite numbers"):
        draw_one([1.0, wrong])
