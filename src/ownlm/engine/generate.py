"""Answers as a whole or as they are drawn: the engine driven from the caller's own thread."""

from collections.abc import Iterable, Iterator, Sequence

from ownlm.engine.engine import Engine
from ownlm.engine.request import Completion, Piece, Request, Ticket
from ownlm.errors import OwnlmError


def stream(engine: Engine, request: Request) -> Iterator[Piece]:
    """Pieces of the answers as they are drawn. A bad request is refused at the call.

    Closing the iterator cancels the request. Several may be read in turns: they share the engine's steps.
    """
    return _pieces(engine, engine.add(request))


def _pieces(engine: Engine, ticket: Ticket) -> Iterator[Piece]:
    try:
        while ticket.pieces or not ticket.finished:
            if ticket.pieces:
                yield ticket.pieces.popleft()
            else:
                engine.step()
        _check(ticket)
    finally:
        engine.cancel(ticket)


def complete(engine: Engine, requests: Sequence[Request]) -> list[Completion]:
    """Whole answers, drawn side by side: in the order of `requests`, for each as many as its sampling's `n`."""
    tickets: list[Ticket] = []
    try:
        tickets += (engine.add(request) for request in requests)
        while not all(ticket.finished for ticket in tickets):
            engine.step()
    finally:
        for ticket in tickets:
            engine.cancel(ticket)
    return [done for ticket in tickets for done in completions(ticket)]


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
    return Completion(
        text="".join(piece.text for piece in pieces),
        token_ids=[piece.token_id for piece in pieces],
        log_probabilities=[piece.logprob for piece in pieces],
        top=[piece.top for piece in pieces],
        finish_reason=reason,
    )


def _check(ticket: Ticket) -> None:
    if ticket.error is not None:
        raise OwnlmError(ticket.error)
