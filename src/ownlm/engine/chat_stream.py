"""One answer on its way to a person: pieces of text as they are drawn, and figures when it has ended."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from ownlm.engine.generate import PieceStream


@dataclass(frozen=True, kw_only=True)
class ChatPiece:
    """Text that may be shown now. A token that ends inside a character comes with an empty text."""

    text: str
    token_ids: list[int]
    probability: float | None


class ChatStream:
    """Iterate once. `cancel()` may be called at any time, also from a signal handler: the next token is the last.

    However the iteration ends, the engine then holds nothing of the answer any more.
    """

    def __init__(self, pieces: PieceStream, *, context_dropped: int = 0) -> None:
        self._pieces = pieces
        self._cancelled = False
        self._seconds = 0.0
        self.context_dropped = context_dropped
        self.finish_reason = "cancelled"
        self.tokens = 0

    def __iter__(self) -> Iterator[ChatPiece]:
        started = time.perf_counter()
        try:
            for piece in self._pieces:
                self.tokens += 1
                self._seconds = time.perf_counter() - started
                if piece.finish_reason is not None:
                    self.finish_reason = piece.finish_reason
                yield ChatPiece(text=piece.text, token_ids=[piece.token_id], probability=piece.probability)
                if self._cancelled:
                    break
        finally:
            self._pieces.close()

    def cancel(self) -> None:
        self._cancelled = True

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self._seconds if self._seconds else 0.0
