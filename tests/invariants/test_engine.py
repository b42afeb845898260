"""What is drawn for a request depends on that request alone: not on the batch, the cut, the cache or the guesses.

Each example picks requests from a pool and an engine of some shape, and compares with the same requests one by one
in a roomy engine that shares and guesses nothing. A matrix product may differ in its last bits with its number of
rows: a difference is excused only where `near_tie` proves that the choice hung by them.
"""

import copy
import itertools
import math
import os
import random
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ownlm.engine import Completion, Engine, EngineConfig, Request, Sampling, Ticket, completions
from ownlm.engine.draft_model import DraftModel
from ownlm.engine.grammar import Grammar
from ownlm.engine.sampler import Sampler
from ownlm.engine.speculate import PromptLookup
from ownlm.model import Decoder
from ownlm.model.rope_scaling import RopeScaling
from tiny_models import random_decoder, random_ids, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
END = TOKENIZER.end_of_text_id
CONTEXT = 96
# Enough for any request of the pool and hardly more: a second one makes somebody wait or go back.
LEAST_CACHE = 80
TIE = 1e-4
# Many more were tried once.
EXAMPLES = int(os.environ.get("OWNLM_ENGINE_EXAMPLES", "10"))

LONGROPE = RopeScaling(
    rope_type="longrope",
    factor=3.0,
    original_max_position_embeddings=32,
    short_factor=tuple(1 + place / 8 for place in range(8)),
    long_factor=tuple(1.5 + place for place in range(8)),
)
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "sliding": {"sliding_window": 20},
    "gemma": {
        "sliding_window": 9,
        "layer_types": ("sliding_attention", "full_attention"),
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 20.0,
        "norm_offset": 1.0,
        "post_norm": True,
        "qk_norm": "none",
        "rope_local_base_freq": 100.0,
    },
    "gpt2": {"learned_positions": True, "norm": "layer", "gated": False, "qk_norm": "none", "attention_bias": True},
    "longrope": {"rope_scaling": LONGROPE},
    "experts": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "norm_topk_prob": True},
}


@cache
def decoder(shape: str, seed: int = 1) -> Decoder:
    return random_decoder(seed=seed, max_position_embeddings=CONTEXT, **SHAPES[shape]).eval()


def make_pool() -> list[Request]:
    """Prompts of all lengths, some with the same beginning, some past what the longrope model was trained on."""
    rng = random.Random(5)
    beginnings = [random_ids(50, seed=seed) for seed in (1, 2)]
    kinds: list[dict[str, Any]] = [
        {"temperature": 0.0},
        {"temperature": 0.0, "logprobs": 3, "stop_ids": tuple(range(30, 60))},
        {"temperature": 0.0, "repetition_penalty": 1.4, "frequency_penalty": 0.3},
        {"temperature": 0.9, "logprobs": 2},
        {"temperature": 1.3, "top_p": 0.9, "min_p": 0.01, "stop": ("a", "e ", "in")},
        {"temperature": 0.8, "top_k": 9, "presence_penalty": 0.5, "logit_bias": {5: 3.0, 9: -100.0}, "n": 3},
        {"temperature": 1.0, "mirostat": 2, "min_tokens": 5},
        {"temperature": 0.7, "typical_p": 0.8, "xtc_probability": 0.5, "dry_multiplier": 0.8, "n": 2},
    ]
    grammars = [Grammar(kind="regex", text="(ab|cd)+[0-9]{3}x*"), Grammar(kind="choice", text=("the cat", "the dog"))]
    pool = []
    for number in range(28):
        prompt = rng.choice(beginnings)[: rng.choice((1, 5, 16, 17, 31, 33, 48, 50))] + random_ids(3, seed=number)
        kind = kinds[number % len(kinds)]
        sampling = Sampling(max_tokens=rng.randrange(kind.get("min_tokens", 1), 14), seed=number, **kind)
        pool.append(
            Request(
                prompt=prompt,
                sampling=replace(sampling, prompt_logprobs=number % 5 == 0),
                grammar=grammars[number % 2] if number % 7 == 3 else None,
                priority=rng.choice((-1, 0, 0, 1)),
            )
        )
    return pool


POOL = make_pool()


def run(engine: Engine, requests: list[Request], cancelled: dict[int, int] | None = None) -> list[Ticket]:
    """Everyone to the end; `cancelled` says after how many steps which of them is not."""
    tickets = [engine.add(request) for request in requests]
    step = 0
    while not engine.idle:
        for number, when in (cancelled or {}).items():
            if step == when:
                engine.cancel(tickets[number])
        engine.step()
        step += 1
        assert step < 5000, "somebody never ends"
    assert engine.scheduler.blocks.free == engine.scheduler.blocks.count
    return tickets


@cache
def alone(shape: str, number: int) -> Ticket:
    config = EngineConfig(share_prefixes=False, cache_tokens=CONTEXT * 4)
    return run(Engine(decoder(shape), TOKENIZER, [END], config), [POOL[number]])[0]


def speculate(engine: Engine, how: str, shape: str) -> None:
    if how == "lookup":
        engine.speculator = PromptLookup(longest=2, shortest=1)
    elif how != "none":
        draft = decoder(shape, 1 if how == "same" else 2)
        engine.speculator = DraftModel(draft, engine.runner, blocks=engine.scheduler.blocks.count, most=3)


def whole(model: Decoder, ids: list[int]) -> torch.Tensor:
    """Scores [T, V] of an uncached forward."""
    with torch.no_grad():
        return model(torch.tensor([ids]))[0, :, : TOKENIZER.vocab_size]


def prompt_logprobs(model: Decoder, ids: list[int]) -> torch.Tensor:
    """How likely ids are, [T, V], where the head's rows beyond the vocabulary have their share too."""
    with torch.no_grad():
        return model(torch.tensor([ids]))[0].log_softmax(-1)[:, : TOKENIZER.vocab_size]


def scores(model: Decoder, ids: list[int]) -> torch.Tensor:
    """The same without ids that are never drawn."""
    logits_TV = whole(model, ids)
    logits_TV[:, sorted(set(TOKENIZER.never_generated) - {END})] = -torch.inf
    return logits_TV


def near_tie(model: Decoder, request: Request, choice: int, drawn: list[int], ours: int, theirs: int) -> bool:
    """Could the last bits decide which of two tokens comes after `drawn`? The sampler is led there by the scores of
    a whole forward; then less than TIE between the two tokens must be able to turn the draw to either."""
    engine = Engine(model, TOKENIZER, [END], EngineConfig(cache_tokens=16))
    matcher = None if request.grammar is None else engine.grammars.start(request.grammar, after=request.prompt)
    stops = {*request.sampling.stop_ids, END}
    sampler = Sampler(request.sampling, request.prompt, choice=choice, end_ids=tuple(stops))
    logits_TV = scores(model, [*request.prompt, *drawn])[len(request.prompt) - 1 :]
    mask = None if matcher is None else matcher.mask
    for logits_V, token in zip(logits_TV, drawn, strict=False):
        sampler.draw(logits_V, mask)
        if matcher is not None:
            matcher.accept(token)
    either = set()
    for up, down in ((ours, theirs), (theirs, ours)):
        logits_V = logits_TV[-1].clone()
        logits_V[up] += TIE / 2
        logits_V[down] -= TIE / 2
        either.add(copy.deepcopy(sampler).draw(logits_V, mask).token_id)
    return either == {ours, theirs}


def assert_same(model: Decoder, ticket: Ticket, expected: Ticket) -> None:
    request = ticket.request
    for choice, (ours, theirs) in enumerate(zip(completions(ticket), completions(expected), strict=True)):
        common = 0
        while ours.token_ids[common : common + 1] == theirs.token_ids[common : common + 1] != []:
            common += 1
        assert ours.log_probabilities[:common] == pytest.approx(theirs.log_probabilities[:common], abs=TIE)
        for our_top, their_top in zip(ours.top[:common], theirs.top[:common], strict=True):
            assert [p for _, p in our_top] == pytest.approx([p for _, p in their_top], abs=TIE)
        if ours.token_ids == theirs.token_ids:
            assert (ours.text, ours.finish_reason) == (theirs.text, theirs.finish_reason)
        else:
            here, there = ours.token_ids[common], theirs.token_ids[common]
            assert near_tie(model, request, choice, ours.token_ids[:common], here, there), (request, here, there)
    assert_scores_prompt(model, ticket)


def assert_scores_prompt(model: Decoder, ticket: Ticket) -> None:
    if ticket.prompt_tokens is None:
        return
    prompt = ticket.request.prompt
    logprobs_TV = prompt_logprobs(model, prompt)
    assert [token.token_id for token in ticket.prompt_tokens] == prompt[1:]
    expected = [float(logprobs_TV[place, id]) for place, id in enumerate(prompt[1:])]
    assert [token.logprob for token in ticket.prompt_tokens] == pytest.approx(expected, abs=TIE)
    for token, logprobs_V in zip(ticket.prompt_tokens, logprobs_TV, strict=False):
        best = logprobs_V.topk(ticket.request.sampling.logprobs or 0).values.tolist()
        assert [p for _, p in token.top] == pytest.approx(best, abs=TIE)


@dataclass(frozen=True, kw_only=True)
class Plan:
    numbers: list[int]
    config: EngineConfig
    speculation: str
    cancelled: dict[int, int]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    numbers = draw(st.lists(st.sampled_from(range(len(POOL))), min_size=2, max_size=7))
    max_sequences = draw(st.integers(1, 7))
    config = EngineConfig(
        max_sequences=max_sequences,
        step_tokens=draw(st.integers(max_sequences, 20) | st.sampled_from((33, 64, 512))),
        cache_tokens=draw(st.sampled_from((LEAST_CACHE, 112, 160, 640))),
        share_prefixes=draw(st.booleans()),
    )
    return Plan(
        numbers=numbers,
        config=config,
        speculation=draw(st.sampled_from(("none", "lookup", "same", "other"))),
        cancelled=draw(st.dictionaries(st.integers(0, len(numbers) - 1), st.integers(0, 25), max_size=2)),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_around_a_request_changes_it(shape: str) -> None:
    put_back = accepted = shared = 0

    @settings(
        max_examples=EXAMPLES * (4 if shape == "plain" else 1),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(plans())
    def check(plan: Plan) -> None:
        nonlocal put_back, accepted, shared
        engine = Engine(decoder(shape), TOKENIZER, [END], plan.config)
        speculate(engine, plan.speculation, shape)
        tickets = run(engine, [POOL[number] for number in plan.numbers], plan.cancelled)
        for place, (number, ticket) in enumerate(zip(plan.numbers, tickets, strict=True)):
            if place not in plan.cancelled:
                assert_same(engine.model, ticket, alone(shape, number))
        put_back += engine.scheduler.preemptions
        accepted += sum(ticket.accepted for ticket in tickets)
        shared += sum(ticket.cached_tokens for ticket in tickets)

    check()
    assert put_back > 0 and accepted > 0 and shared > 0, (put_back, accepted, shared)


def test_only_a_tie_excuses_a_difference() -> None:
    model, request = copy.deepcopy(decoder("plain")), POOL[8]
    assert request.sampling.temperature == 0
    best, second = scores(model, request.prompt)[-1].topk(2).indices.tolist()
    assert not near_tie(model, request, 0, [], best, second)
    with torch.no_grad():
        model.model.embed_tokens.weight[second] = model.model.embed_tokens.weight[best] * (1 + 1e-7)
    assert second not in request.prompt and near_tie(model, request, 0, [], best, second)


@pytest.mark.parametrize("cache_dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("shape", ["plain", "gemma"])
def test_a_rounded_cache_says_the_same_however_it_is_cut(shape: str, cache_dtype: Any) -> None:
    """What is stored for a token depends on that token alone, and is read back also within the step that wrote it."""
    answers = []
    for max_sequences, step_tokens, cache_tokens in ((1, 512, 640), (1, 1, LEAST_CACHE), (7, 7, 640), (4, 20, 160)):
        config = EngineConfig(
            max_sequences=max_sequences, step_tokens=step_tokens, cache_tokens=cache_tokens, cache_dtype=cache_dtype
        )
        engine = Engine(decoder(shape), TOKENIZER, [END], config)
        speculate(engine, "lookup", shape)
        answers.append([done.token_ids for ticket in run(engine, POOL[:14]) for done in completions(ticket)])
    assert answers[1:] == answers[:1] * 3
    exact = [done.token_ids for number in range(14) for done in completions(alone(shape, number))]
    assert answers[0] != exact, "rounding that changes nothing is no test"


def test_users_with_different_salts_share_nothing() -> None:
    engine = Engine(decoder("plain"), TOKENIZER, [END])
    prompt = random_ids(50, seed=9)
    sampling = Sampling(max_tokens=3, temperature=0)

    def found(salt: str) -> int:
        return run(engine, [Request(prompt=prompt, sampling=sampling, cache_salt=salt)])[0].cached_tokens

    assert [found("a"), found("b"), found("")] == [0, 0, 0]
    assert [found("b"), found("a"), found("")] == [48, 48, 48]


def test_several_answers_are_those_of_one_seed_after_another() -> None:
    request = Request(prompt=POOL[0].prompt, sampling=Sampling(max_tokens=8, temperature=1.1, seed=40, n=5))
    config = EngineConfig(max_sequences=3, step_tokens=7, cache_tokens=160)
    (ticket,) = run(Engine(decoder("plain"), TOKENIZER, [END], config), [request])
    for choice, done in enumerate(completions(ticket)):
        own = replace(request, sampling=replace(request.sampling, n=1, seed=40 + choice))
        (single,) = run(Engine(decoder("plain"), TOKENIZER, [END]), [own])
        assert completions(single)[0].token_ids == done.token_ids


def say(how: str, end: int = END, **sampling: Any) -> tuple[Completion, Ticket]:
    engine = Engine(decoder("plain"), TOKENIZER, [END, end])
    speculate(engine, how, "plain")
    settings = {"max_tokens": 30, "temperature": 0, "seed": 3} | sampling
    (ticket,) = run(engine, [Request(prompt=POOL[0].prompt, sampling=Sampling(**settings))])
    return completions(ticket)[0], ticket


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("how", ["none", "same", "other", "lookup"])
def test_every_way_to_end_is_kept_by_speculation(how: str, temperature: float) -> None:
    free, ticket = say(how, temperature=temperature)
    assert len(free.token_ids) == 30 and (how != "same" or ticket.accepted > 0)
    pieces = [TOKENIZER.decode([id]) for id in free.token_ids]
    # A stop string that begins in one token and ends in another, and is in the text once.
    borders = [(place, pieces[place][-1:] + pieces[place + 1][:1]) for place in range(3, 29)]
    place, both = next(
        (place, both) for place, both in borders if both.isascii() and len(both) == 2 and free.text.count(both) == 1
    )
    cut, _ = say(how, temperature=temperature, stop=(both,))
    assert cut.finish_reason == "stop" and cut.text == free.text[: free.text.index(both)]
    assert cut.token_ids == free.token_ids[: place + 2]

    last = free.token_ids[place]
    first = free.token_ids.index(last)
    for how_ended in ({"end": last}, {"stop_ids": (last,)}):
        ended, _ = say(how, temperature=temperature, **how_ended)
        assert ended.finish_reason == "stop" and ended.token_ids == free.token_ids[: first + 1]
        assert ended.text == TOKENIZER.decode(free.token_ids[:first])
    ignored, _ = say(how, temperature=temperature, end=last, ignore_eos=True)
    assert ignored.token_ids == free.token_ids
    late, _ = say(how, temperature=temperature, end=last, min_tokens=first + 5)
    assert last not in late.token_ids[: first + 5] and late.token_ids[:first] == free.token_ids[:first]
    plain, _ = say("none", temperature=temperature, end=last, min_tokens=first + 5)
    assert late.token_ids == plain.token_ids


@pytest.mark.parametrize("how", ["same", "other"])
def test_speculation_leaves_the_distribution_as_it_is(how: str) -> None:
    """Chi-square over 800 seeds of three tokens from a vocabulary of four, against the model's own chances."""
    words, most = 4, 3
    model, other = (random_decoder(seed=seed, vocab_size=words, scale=0.2).eval() for seed in (1, 2))
    engine = Engine(model, TOKENIZER, [])
    engine.runner.never = torch.tensor([], dtype=torch.long)
    engine.speculator = DraftModel(model if how == "same" else other, engine.runner, blocks=64, most=2)
    sampling = Sampling(max_tokens=most, temperature=1.0, n=100)
    requests = [Request(prompt=[1, 0, 2], sampling=replace(sampling, seed=100 * number)) for number in range(8)]
    tickets = run(engine, requests)
    drafted, accepted = sum(t.drafted for t in tickets), sum(t.accepted for t in tickets)
    assert 50 < accepted < 0.9 * drafted
    counts: dict[tuple[int, ...], int] = {}
    for done in (done for ticket in tickets for done in completions(ticket)):
        counts[tuple(done.token_ids)] = counts.get(tuple(done.token_ids), 0) + 1
    square, freedom, rest, rest_expected = 0.0, 0, 0, 0.0
    for text in itertools.product(range(words), repeat=most):
        with torch.no_grad():
            logprobs_TV = model(torch.tensor([[1, 0, 2, *text]]))[0, 2:].double().log_softmax(-1)
        expected = 800 * math.exp(sum(float(logprobs_TV[place, id]) for place, id in enumerate(text)))
        if expected < 5:
            rest, rest_expected = rest + counts.get(text, 0), rest_expected + expected
            continue
        square, freedom = square + (counts.get(text, 0) - expected) ** 2 / expected, freedom + 1
    if rest_expected >= 5:
        square, freedom = square + (rest - rest_expected) ** 2 / rest_expected, freedom + 1
    freedom -= 1
    # The 0.999 quantile of chi-square, by Wilson and Hilferty's approximation.
    assert freedom > 10
    assert square <= freedom * (1 - 2 / (9 * freedom) + 3.09 * math.sqrt(2 / (9 * freedom))) ** 3


def test_what_only_the_template_puts_has_a_chance_in_the_prompt() -> None:
    prompt = [5, TOKENIZER.special["<|im_start|>"], 6]
    sampling = Sampling(max_tokens=1, prompt_logprobs=True)
    (ticket,) = run(Engine(decoder("plain"), TOKENIZER, [END]), [Request(prompt=prompt, sampling=sampling)])
    logprobs_TV = prompt_logprobs(decoder("plain"), prompt)
    expected = [float(logprobs_TV[place, id]) for place, id in enumerate(prompt[1:])]
    assert ticket.prompt_tokens is not None
    assert [token.logprob for token in ticket.prompt_tokens] == pytest.approx(expected, abs=TIE)
