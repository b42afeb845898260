"""The engine: requests in, tokens out, all of them side by side.

    engine = Engine(model, tokenizer, end_ids)
    ticket = engine.add(Request(prompt=ids))
    while not ticket.finished:
        engine.step()                    # a token for everybody; new ones are in ticket.pieces

    add ──▶ scheduler ──turns──▶ runner ──scores──▶ sequence.draw ──▶ ticket.pieces
              blocks ◀─────────── paged cache

What is drawn for a request depends on that request alone, to within the last bits of a matrix product: not on who
else is there, how its prompt was cut, whether it was put back, found in the cache, or guessed by speculation.
"""

import hashlib
from collections import deque
from collections.abc import Sequence as Ids
from dataclasses import dataclass
from itertools import count
from typing import Literal
from weakref import WeakKeyDictionary

import torch

from ownlm.engine.blocks import BLOCK, Blocks
from ownlm.engine.grammar import GrammarCompiler
from ownlm.engine.paged_cache import CACHE_DTYPES, PagedCache
from ownlm.engine.request import Piece, Request, Ticket
from ownlm.engine.runner import Runner
from ownlm.engine.scheduler import PATIENCE, Scheduler, Turn
from ownlm.engine.sequence import Sequence
from ownlm.engine.speculate import Speculator
from ownlm.errors import OwnlmError
from ownlm.machine import free_bytes
from ownlm.model import Decoder
from ownlm.model.config import DecoderConfig
from ownlm.model.lora import LoraAdapter
from ownlm.tokenizer import Tokenizer

# Where a system does not say how much is free.
_UNKNOWN_MEMORY = 2 * 2**30

CacheDtype = Literal["float32", "bfloat16", "float16", "int8"]


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """max_sequences: texts side by side. step_tokens: tokens a step, the most of a prompt that is read at once.
    cache_tokens: room for keys and values; by default for `max_sequences` whole contexts, within a quarter of the
    memory that is free. cache_dtype: what they are kept in. share_prefixes: compute a common beginning once.
    """

    max_sequences: int = 32
    step_tokens: int = 512
    cache_tokens: int | None = None
    cache_dtype: CacheDtype = "float32"
    share_prefixes: bool = True

    def __post_init__(self) -> None:
        for name in ("max_sequences", "step_tokens", "cache_tokens"):
            value = getattr(self, name)
            if type(value) is not int and not (name == "cache_tokens" and value is None):
                raise OwnlmError(f"{name} must be a whole number, got {value!r}")
        if not isinstance(self.share_prefixes, bool):
            raise OwnlmError(f"share_prefixes must be true or false, got {self.share_prefixes!r}")
        if self.max_sequences < 1:
            raise OwnlmError(f"max_sequences must be at least 1, got {self.max_sequences}")
        if self.step_tokens < self.max_sequences:
            raise OwnlmError(
                f"step_tokens ({self.step_tokens}) must be at least max_sequences ({self.max_sequences}), "
                "for every text gets a token a step"
            )
        if self.cache_tokens is not None and self.cache_tokens < BLOCK:
            raise OwnlmError(f"cache_tokens must be at least {BLOCK}, got {self.cache_tokens}")
        if not isinstance(self.cache_dtype, str) or self.cache_dtype not in CACHE_DTYPES:
            raise OwnlmError(f"cache_dtype must be one of {', '.join(CACHE_DTYPES)}, got {self.cache_dtype!r}")


class Engine:
    """Not for several threads at once; see background.py."""

    def __init__(
        self, model: Decoder, tokenizer: Tokenizer, end_ids: Ids[int], config: EngineConfig | None = None
    ) -> None:
        self.model, self.tokenizer, self.end_ids = model, tokenizer, frozenset(end_ids)
        self.config = config = config or EngineConfig()
        room = (free_bytes(model.device) or _UNKNOWN_MEMORY) // 4
        blocks = cache_blocks(model.config, config, room=room)
        self.context = min(model.config.max_position_embeddings, blocks * BLOCK)
        # A model may end its text, but never write what only the template puts, nor an id that stands for nothing.
        width = min(tokenizer.vocab_size, model.config.vocab_size)
        cache = PagedCache(model.config, blocks=blocks, device=model.device, dtype=CACHE_DTYPES[config.cache_dtype])
        self.runner = Runner(model, cache, width=width, never=tuple(set(tokenizer.never_generated) - self.end_ids))
        self.scheduler = Scheduler(
            Blocks(blocks),
            max_sequences=config.max_sequences,
            step_tokens=config.step_tokens,
            share_prefixes=config.share_prefixes,
        )
        self.speculator: Speculator | None = None
        self.grammars = GrammarCompiler(tokenizer, width, end_ids)
        self._ids = count()
        self._of: dict[int, list[Sequence]] = {}
        self._unwanted: deque[Ticket] = deque()
        # Texts whose drafts of this step are the speculator's, no grammar's.
        self._guessed: set[Sequence] = set()
        # A number for each adapter, never another's again, for what is computed with one fits no other.
        self._adapters: WeakKeyDictionary[LoraAdapter, int] = WeakKeyDictionary()

    @property
    def idle(self) -> bool:
        self._cancel_unwanted()
        return not self._of

    def check(self, request: Request) -> None:
        """OwnlmError where a request cannot be answered. Any thread may ask: a grammar is then compiled already."""
        prompt = request.prompt
        if not prompt:
            raise OwnlmError("the prompt is empty; give at least one token to go on from")
        # True and 1.5 would pass for numbers here, and end the step for everybody.
        if not all(type(id) is int and 0 <= id < self.runner.width for id in prompt):
            raise OwnlmError(f"the prompt holds an id that is no token's; ids are 0 to {self.runner.width - 1}")
        # An embedding needs no room for an answer.
        if len(prompt) - request.embed >= self.context:
            whole = self.context == self.model.config.max_position_embeddings
            limit = f"the model's context is {self.context}" if whole else f"the cache has room for {self.context}"
            raise OwnlmError(f"the prompt has {len(prompt)} tokens, {limit}; shorten it")
        request.sampling.check_ids(self.runner.width)
        if request.adapter is not None:
            request.adapter.check(self.model)
        if request.grammar is not None:
            self.grammars.compile(request.grammar)

    def add(self, request: Request) -> Ticket:
        """Take a request; OwnlmError where it cannot be answered, before anything is computed."""
        self.check(request)
        sampling = request.sampling
        assert not request.embed or (sampling.n == 1 and not sampling.prompt_logprobs), "an embedding is all it gives"
        ticket = Ticket(next(self._ids), request)
        # Compiled once; each answer walks through the grammar by itself.
        matchers = [
            None if request.grammar is None else self.grammars.start(request.grammar, after=request.prompt)
            for _ in range(request.sampling.n)
        ]
        salt = self._salt(request)
        answers: list[Sequence] = []
        for choice, matcher in enumerate(matchers):
            sequence = Sequence(
                ticket,
                choice,
                self.tokenizer,
                ends=self.end_ids,
                limit=self.context,
                order=ticket.id + request.priority * PATIENCE,
                salt=salt,
                matcher=matcher,
                leader=answers[0] if answers and self.config.share_prefixes else None,
            )
            answers.append(sequence)
            self.scheduler.add(sequence)
        self._of[ticket.id] = answers
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Stop answering, at once; what was drawn stays in the ticket. Nothing happens to one that has ended."""
        for sequence in self._of.get(ticket.id, []):
            if not sequence.finished:
                self._end(sequence)

    def step(self) -> list[Ticket]:
        """One token (with speculation: one or more) for everybody who has a turn; returns whose pieces there are."""
        self._cancel_unwanted()
        turns = self.scheduler.plan(self._propose)
        if not turns:
            return []
        news: dict[int, Ticket] = {}
        for turn, found in zip(turns, self.runner.run(turns), strict=True):
            ticket = turn.sequence.ticket
            if turn.sequence.finished:
                continue  # another answer to the same prompt failed in this step
            pieces = self._embed(turn, found) if turn.sequence.embeds else self._take(turn, found)
            ticket.pieces.extend(pieces)
            if pieces or ticket.finished:
                news[ticket.id] = ticket
        return list(news.values())

    def let_go(self, ticket: Ticket) -> None:
        """Cancel when the engine is next used: for who may be in the middle of a step, as the garbage collector."""
        self._unwanted.append(ticket)

    def _cancel_unwanted(self) -> None:
        while self._unwanted:
            self.cancel(self._unwanted.popleft())

    def _take(self, turn: Turn, logits_RV: torch.Tensor | None) -> list[Piece]:
        """What the turn's scores give: pieces of the answer, as many as drafts were right, and one."""
        sequence, before = turn.sequence, turn.sequence.computed
        pieces: list[Piece] = []
        if logits_RV is not None and sequence.scores_prompt:
            sequence.score_prompt(before, logits_RV)
        sequence.computed += turn.count
        if logits_RV is not None and turn.draws:
            own_RV = logits_RV[-1 - len(turn.drafts) :]
            for place, draft in enumerate([*turn.drafts, None]):
                try:
                    pieces.append(sequence.draw(own_RV[place]))
                except OwnlmError as error:
                    self._fail(sequence, error)
                    return pieces
                if sequence.finished or pieces[-1].token_id != draft:
                    break
            right = len(pieces) - 1
            sequence.computed += right
            if turn.drafts:
                self._learn(sequence, len(turn.drafts), right)
        self.scheduler.publish(sequence, before)
        if sequence.finished:
            self._end(sequence)
        return pieces

    def _embed(self, turn: Turn, hidden_TE: torch.Tensor | None) -> list[Piece]:
        sequence, before = turn.sequence, turn.sequence.computed
        assert hidden_TE is not None
        sequence.computed += turn.count
        try:
            sequence.pool(before, hidden_TE)
        except OwnlmError as error:
            self._fail(sequence, error)
            return []
        self.scheduler.publish(sequence, before)
        if sequence.finished:
            self._end(sequence)
        return []

    def _propose(self, sequences: Ids[Sequence]) -> list[Ids[int]]:
        """Guesses for each text: what its grammar leaves no choice about, else the speculator's."""
        drafts: dict[Sequence, Ids[int]] = {
            sequence: sequence.matcher.forced() if sequence.matcher is not None else [] for sequence in sequences
        }
        free = [sequence for sequence, forced in drafts.items() if not forced]
        self._guessed = set(free)
        if self.speculator is not None and free:
            drafts.update(zip(free, self.speculator.propose(free), strict=True))
        return list(drafts.values())

    def _learn(self, sequence: Sequence, drafted: int, right: int) -> None:
        sequence.ticket.drafted += drafted
        sequence.ticket.accepted += right
        if self.speculator is not None and sequence in self._guessed:
            self.speculator.learn(sequence, drafted, right)

    def _end(self, sequence: Sequence) -> None:
        sequence.finished = True
        if self.speculator is not None:
            self.speculator.forget(sequence)
        self.scheduler.drop(sequence)
        ticket = sequence.ticket
        ticket.going -= 1
        if ticket.finished:
            del self._of[ticket.id]

    def _fail(self, sequence: Sequence, error: OwnlmError) -> None:
        """The request cannot be answered further; the others go on."""
        ticket = sequence.ticket
        ticket.error = str(error)
        held = {block for answer in self._of[ticket.id] for block in answer.blocks}
        self.cancel(ticket)
        # What lies in its blocks may be no finite number: nobody shall find a beginning there.
        self.scheduler.blocks.forget(held)

    def _salt(self, request: Request) -> bytes:
        """What besides its tokens decides what is computed for a text."""
        config, length = self.model.config, 0
        if config.rope_scaling is not None and config.rope_scaling.by_length:
            trained = config.rope_scaling.original_max_position_embeddings or config.max_position_embeddings
            # Angles depend on how long the prompt is, once it is longer than what the model was trained on.
            length = len(request.prompt) if len(request.prompt) > trained else 0
        adapter = request.adapter
        number = None if adapter is None else self._adapters.setdefault(adapter, next(self._ids))
        return hashlib.sha256(repr((request.cache_salt, number, length)).encode()).digest()


def cache_blocks(model: DecoderConfig, config: EngineConfig, *, room: int) -> int:
    """How many blocks a cache has that gets `room` bytes, where its configuration does not say."""
    if config.cache_tokens is not None:
        return config.cache_tokens // BLOCK
    each = PagedCache.bytes_per_token(model, CACHE_DTYPES[config.cache_dtype])
    tokens = min(config.max_sequences * model.max_position_embeddings, room // each)
    if tokens < BLOCK:
        raise OwnlmError("there is no memory for a cache; give fewer cache_tokens or another cache_dtype")
    return -(-tokens // BLOCK)
