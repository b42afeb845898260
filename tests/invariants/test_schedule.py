"""A long random life of the engine on a toy model: no block is lost, nobody waits for ever, nothing changes a text.

The toy's next token is a function of the whole text so far, read back from the cache's blocks: a block that was
mixed up, reused too early or shared wrongly shows in what is said.
"""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from ownlm.engine import Engine, EngineConfig, Request, Sampling, Ticket
from ownlm.engine import engine as engines
from ownlm.engine import sequence as sequences
from ownlm.engine.blocks import BLOCK
from ownlm.engine.sampler import Drawn
from ownlm.engine.scheduler import Turn
from tiny_models import random_decoder, tiny_tokenizer

# docs/LOG.md has a million.
STEPS = int(os.environ.get("OWNLM_SCHEDULE_STEPS", "10000"))
WORDS = 7
PATIENCE = 20


def next_word(tokens: Sequence[int]) -> int:
    return hash(tuple(tokens)) % WORDS


class ToyRunner:
    """Keeps token ids where a model keeps keys and values, and takes what it says from there alone."""

    def __init__(self, blocks: int) -> None:
        self.blocks = [[-1] * BLOCK for _ in range(blocks)]
        self.width = WORDS

    def run(self, turns: Sequence[Turn]) -> list[list[int] | None]:
        for turn in turns:
            sequence, first = turn.sequence, turn.sequence.computed
            fed = [*sequence.tokens[first : first + turn.count], *turn.drafts]
            for place, token in enumerate(fed, start=first):
                self.blocks[sequence.blocks[place // BLOCK]][place % BLOCK] = token
        return [self._words(turn) if turn.draws else None for turn in turns]

    def _words(self, turn: Turn) -> list[int]:
        known = turn.sequence.computed + turn.count
        kept = [token for block in turn.sequence.blocks for token in self.blocks[block]]
        return [next_word(kept[: known + drafts]) for drafts in range(len(turn.drafts) + 1)]


class ToySampler:
    """Draws the one word that there is."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def draw(self, word: int, restrict: None) -> Drawn:
        return Drawn(token_id=word, logprob=0.0, top=())


class Guesser:
    """Right half of the time."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def propose(self, sequences: Sequence[Any]) -> list[list[int]]:
        return [self._guess(list(sequence.tokens)) for sequence in sequences]

    def _guess(self, tokens: list[int]) -> list[int]:
        known = len(tokens)
        for _ in range(self.rng.randrange(4)):
            tokens.append(next_word(tokens) if self.rng.random() < 0.7 else self.rng.randrange(WORDS))
        return tokens[known:]

    def learn(self, sequence: Any, drafted: int, right: int) -> None: ...

    def forget(self, sequence: Any) -> None: ...


@dataclass
class Asked:
    ticket: Ticket
    since: int
    cancelled: bool = False


def life(steps: int, seed: int) -> tuple[int, int]:
    """Returns how many requests ended, and how many texts were put back."""
    rng = random.Random(seed)
    config = EngineConfig(max_sequences=5, step_tokens=24, cache_tokens=10 * BLOCK)
    engine = Engine(random_decoder(max_position_embeddings=7 * BLOCK).eval(), tiny_tokenizer(), [], config)
    engine.runner = ToyRunner(10)  # type: ignore[assignment]
    engine.speculator = Guesser(rng)
    beginnings = [[rng.randrange(WORDS) for _ in range(3 * BLOCK)] for _ in range(3)]
    going: list[Asked] = []
    ended = 0
    for step in range(steps):
        if len(going) < 12 and rng.random() < 0.4:
            prompt = rng.choice(beginnings)[: rng.randrange(1, 3 * BLOCK)]
            prompt = prompt + [rng.randrange(WORDS) for _ in range(rng.randrange(6))]
            sampling = Sampling(max_tokens=rng.randrange(1, 50), temperature=0, n=rng.choice((1, 1, 1, 3)))
            request = Request(prompt=prompt, sampling=sampling, priority=rng.choice((-1, 0, 0, 1)))
            going.append(Asked(engine.add(request), step))
        if going and rng.random() < 0.02:
            asked = rng.choice(going)
            engine.cancel(asked.ticket)
            asked.cancelled = True
        engine.step()
        if step % 20 == 0:
            check_blocks(engine)
        for asked in [asked for asked in going if asked.ticket.finished]:
            going.remove(asked)
            ended += 1
            if not asked.cancelled:
                check_text(asked.ticket)
        # Who stands behind a level of priority waits for PATIENCE requests at most, of a few dozen tokens each.
        assert all(step - asked.since < 1000 for asked in going), "a request starves"
    while not engine.idle:
        engine.step()
    assert engine.scheduler.blocks.free == engine.scheduler.blocks.count, "a block leaks"
    return ended, engine.scheduler.preemptions


def check_blocks(engine: Engine) -> None:
    blocks = engine.scheduler.blocks
    held: dict[int, int] = {}
    for sequence in engine.scheduler.running:
        assert len(sequence.blocks) * BLOCK >= sequence.computed
        for block in sequence.blocks:
            held[block] = held.get(block, 0) + 1
    assert not any(sequence.blocks for sequence in engine.scheduler.waiting)
    assert blocks.free == blocks.count - len(held)
    assert all(blocks._holders[block] == held.get(block, 0) for block in range(blocks.count))


def check_text(ticket: Ticket) -> None:
    for choice in range(ticket.request.sampling.n):
        tokens = list(ticket.request.prompt)
        for piece in ticket.pieces:
            if piece.choice == choice:
                assert piece.token_id == next_word(tokens)
                tokens.append(piece.token_id)
        assert len(tokens) - len(ticket.request.prompt) == min(
            ticket.request.sampling.max_tokens, 7 * BLOCK - len(ticket.request.prompt)
        )


@pytest.fixture(autouse=True)
def toy_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "Sampler", ToySampler)
    monkeypatch.setattr(engines, "PATIENCE", PATIENCE)


def test_a_random_life_leaks_no_block_and_starves_nobody() -> None:
    ended, put_back = life(STEPS, seed=1)
    assert ended > STEPS / 20 and put_back > STEPS / 100


def test_a_prompt_of_higher_priority_is_read_before_those_that_are_being_read() -> None:
    config = EngineConfig(max_sequences=4, step_tokens=8)
    engine = Engine(random_decoder(max_position_embeddings=7 * BLOCK).eval(), tiny_tokenizer(), [], config)
    engine.runner = ToyRunner(10)  # type: ignore[assignment]
    sampling = Sampling(max_tokens=3, temperature=0)
    later = [engine.add(Request(prompt=[place] * 40, sampling=sampling, priority=1000)) for place in range(4)]
    engine.step()
    first = engine.add(Request(prompt=[5] * 8, sampling=sampling))
    engine.step()
    assert len(first.pieces) == 1
    while not engine.idle:
        engine.step()
    for ticket in (first, *later):
        check_text(ticket)
