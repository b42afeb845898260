"""Answers as a whole or as they are drawn: the engine driven from the caller's own thread."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ownlm.engine.blocks import BLOCK
from ownlm.engine.engine import Engine, EngineConfig
from ownlm.engine.request import Completion, Piece, Request, Ticket
from ownlm.errors import OwnlmError
from ownlm.model import Decoder
from ownlm.model.lora import LoraAdapter
from ownlm.tokenizer import Tokenizer


def stream(engine: Engine, request: Request) -> "PieceStream":
    """Pieces of the answers as they are drawn. A bad request is refused at the call."""
    return PieceStream(engine, request)


class PieceStream(Iterator[Piece]):
    """Closing it, or letting go of it, cancels the request, also before the first piece.

    Several may be read in turns: they share the engine's steps.
    """

    def __init__(self, engine: Engine, request: Request) -> None:
        self._engine = engine
        self.ticket = engine.add(request)

    def __next__(self) -> Piece:
        ticket = self.ticket
        while not ticket.pieces and not ticket.finished:
            try:
                self._engine.step()
            except BaseException:
                self.close()
                raise
        if ticket.pieces:
            return ticket.pieces.popleft()
        _check(ticket)
        raise StopIteration

    def close(self) -> None:
        """No further token is drawn, and what the answers held of the cache is free."""
        self._engine.cancel(self.ticket)
        self.ticket.pieces.clear()

    def __del__(self) -> None:
        if hasattr(self, "ticket"):
            self._engine.let_go(self.ticket)


def complete(engine: Engine, requests: Sequence[Request]) -> list[Completion]:
    """Whole answers, drawn side by side: in the order of `requests`, for each as many as its sampling's `n`."""
    return [done for ticket in run(engine, requests) for done in completions(ticket)]


def run(engine: Engine, requests: Sequence[Request]) -> list[Ticket]:
    """The same as tickets, which have ended and hold the figures too."""
    tickets: list[Ticket] = []
    try:
        tickets += (engine.add(request) for request in requests)
        while not all(ticket.finished for ticket in tickets):
            engine.step()
    finally:
        for ticket in tickets:
            engine.cancel(ticket)
    return tickets


def embeddings(engine: Engine, prompts: Sequence[list[int]], *, adapter: LoraAdapter | None = None) -> Tensor:
    """Of each prompt the mean of its last hidden states, of unit length: float32 [prompts, E] on the CPU."""
    found: list[Tensor] = []
    for ticket in run(engine, [Request(prompt=prompt, adapter=adapter, embed=True) for prompt in prompts]):
        _check(ticket)
        assert ticket.embedding_E is not None
        found.append(ticket.embedding_E)
    return torch.stack(found)


def complete_at_once(
    model: Decoder, tokenizer: Tokenizer, end_ids: Sequence[int], requests: Sequence[Request]
) -> list[Completion]:
    """The same by an engine made for these requests alone: for weights that change from one call to the next."""
    side_by_side = max(1, min(EngineConfig.max_sequences, len(requests)))
    longest = max((len(request.prompt) + request.sampling.max_tokens for request in requests), default=0)
    room = min(longest, model.config.max_position_embeddings) + BLOCK
    config = EngineConfig(max_sequences=side_by_side, cache_tokens=side_by_side * room)
    return complete(Engine(model, tokenizer, end_ids, config), requests)


def completions(ticket: Ticket) -> list[Completion]:
    """The answers of a request that has ended."""
    _check(ticket)
    return whole(ticket.pieces, ticket.request.sampling.n)


def whole(pieces: Iterable[Piece], n: int) -> list[Completion]:
    """The `n` answers that the pieces of one request make, however they are mixed."""
    answers: list[list[Piece]] = [[] for _ in range(n)]
    for piece in pieces:
        answers[piece.choice].append(piece)
    return [_completion(answer) for answer in answers]


def _completion(pieces: list[Piece]) -> Completion:
    reason = pieces[-1].finish_reason
    assert reason is not None
    text = "".join(piece.text for piece in pieces)
    return Completion(
        text=text,
        token_ids=[piece.token_id for piece in pieces],
        log_probabilities=[piece.logprob for piece in pieces],
        top=[piece.top for piece in pieces],
        finish_reason=reason,
        complete=pieces[-1].complete,
        # What a stop string took away begins at the end.
        offsets=[min(piece.offset, len(text)) for piece in pieces],
    )


def _check(ticket: Ticket) -> None:
    if ticket.error is not None:
        raise OwnlmError(ticket.error)
