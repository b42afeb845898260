"""A request that fails does so alone; n answers to one prompt share fairly."""

import pytest
import torch

from ownlm.engine import Completion, Engine, EngineConfig, Request, Sampling, Ticket, completions
from ownlm.engine.grammar import Grammar, Matcher
from ownlm.errors import OwnlmError
from ownlm.model import Decoder
from tiny_models import random_decoder, random_ids, tiny_tokenizer

POISON = 7
PREFIX = [id for id in random_ids(50, seed=1) if id != POISON][:40]


def poisoned() -> Decoder:
    """Whoever reads POISON gets values that are no numbers from there on."""
    model = random_decoder(seed=1, tie_word_embeddings=False, max_position_embeddings=256).eval()
    with torch.no_grad():
        model.model.embed_tokens.weight[POISON] = torch.nan
    return model


def run(engine: Engine, requests: list[Request]) -> list[Ticket]:
    tickets = [engine.add(request) for request in requests]
    while not engine.idle:
        engine.step()
    return tickets


def request(prompt: list[int], *, seed: int = 0, **settings: object) -> Request:
    kept = {"max_tokens": 20, "temperature": 0.8, "seed": seed, "logit_bias": {POISON: -100.0}}
    return Request(prompt=prompt, sampling=Sampling(**(kept | settings)))  # type: ignore[arg-type]


def texts(ticket: Ticket) -> list[list[int]]:
    return [done.token_ids for done in completions(ticket)]


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("step_tokens", [8, 512])
@pytest.mark.parametrize(
    "cache_dtype",
    ["float32", "int8"],
)
def test_scores_that_are_no_numbers_fail_their_request_alone(
    n: int, share: bool, step_tokens: int, cache_dtype: str
) -> None:
    model = poisoned()
    config = EngineConfig(
        max_sequences=8,
        step_tokens=step_tokens,
        share_prefixes=share,
        cache_tokens=24 * 16,
        cache_dtype=cache_dtype,  # type: ignore[arg-type]
    )
    good = [request([*PREFIX, 10 + number][number * 5 :], seed=number) for number in range(6)]
    bad = [request([*PREFIX, POISON, 9], n=n), request([POISON, 2], n=n)]
    alone = [texts(run(Engine(model, tiny_tokenizer(), [], config), [one])[0]) for one in good]
    engine = Engine(model, tiny_tokenizer(), [], config)
    # Twice: what the failed leave behind in their blocks and among the shared ones must hurt nobody later.
    for _ in range(2):
        tickets = run(engine, [good[0], bad[0], *good[1:4], bad[1], *good[4:]])
        failed = [tickets.pop(5), tickets.pop(1)]
        assert all(ticket.error is not None and "no finite numbers" in ticket.error for ticket in failed)
        assert [texts(ticket) for ticket in tickets] == alone
        assert engine.scheduler.blocks.free == engine.scheduler.blocks.count


def test_what_is_cancelled_before_its_scores_are_seen_hurts_nobody_later() -> None:
    config = EngineConfig(max_sequences=8, step_tokens=8, cache_tokens=8 * 16)
    good = [request(PREFIX[number * 5 : number * 5 + 2], seed=number, max_tokens=12) for number in range(8)]
    engine = Engine(poisoned(), tiny_tokenizer(), [], config)
    alone = [texts(ticket) for ticket in run(engine, good)]
    cancelled = engine.add(request([POISON] * 120))
    for _ in range(14):
        engine.step()
    engine.cancel(cancelled)
    assert [texts(ticket) for ticket in run(engine, good)] == alone


def test_an_answer_that_leaves_its_grammar_leaves_the_shared_beginning_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    model = poisoned()
    good = request(PREFIX)
    engine = Engine(model, tiny_tokenizer(), [])
    alone = texts(run(engine, [good])[0])

    def fail(matcher: Matcher, token: int) -> None:
        raise OwnlmError("the grammar is too costly")

    monkeypatch.setattr(Matcher, "accept", fail)
    refused = Request(prompt=PREFIX, grammar=Grammar(kind="regex", text="[a-z]+"))
    again, failed = run(engine, [good, refused])
    assert failed.error == "the grammar is too costly" and again.cached_tokens == failed.cached_tokens == 32
    assert texts(again) == alone == texts(run(engine, [good])[0])


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("max_sequences", [1, 2])
def test_answers_to_one_prompt_put_back_none_of_themselves(max_sequences: int, share: bool) -> None:
    """Equal in order: were one put back for the other, each would lose what the other's turn just computed."""
    config = EngineConfig(max_sequences=max_sequences, step_tokens=16, cache_tokens=512, share_prefixes=share)
    engine = Engine(poisoned(), tiny_tokenizer(), [], config)
    ticket = engine.add(request(PREFIX, n=4, max_tokens=3))
    for _ in range(40):
        engine.step()
    assert ticket.finished and engine.scheduler.preemptions == 0
    assert len({done.text for done in completions(ticket)}) > 1 and isinstance(completions(ticket)[0], Completion)
    assert ticket.cached_tokens == 0, "what one answer computed for the others was not found"


def test_a_prompt_of_ids_that_only_pad_the_vocabulary_is_refused() -> None:
    engine = Engine(random_decoder(vocab_size=448).eval(), tiny_tokenizer(), [])
    assert engine.runner.width < 448
    with pytest.raises(OwnlmError, match=f"0 to {engine.runner.width - 1}"):
        engine.add(Request(prompt=[engine.runner.width], sampling=Sampling(prompt_logprobs=True)))


@pytest.mark.parametrize("ids", [[1.5], [True], ["a"], [None]])
def test_what_is_no_id_is_refused_before_it_ends_a_step(ids: list[int]) -> None:
    engine = Engine(random_decoder(), tiny_tokenizer(), [])
    with pytest.raises(OwnlmError, match="no token's"):
        engine.add(Request(prompt=ids))
    assert engine.idle


@pytest.mark.parametrize(
    "settings", [{"cache_tokens": "x"}, {"max_sequences": 1.5}, {"step_tokens": None}, {"cache_dtype": []}]
)
def test_a_configuration_of_other_types_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(OwnlmError, match="must be"):
        EngineConfig(**settings)  # type: ignore[arg-type]
