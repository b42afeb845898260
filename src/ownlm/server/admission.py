"""Who may go to the engine now: so many texts at once, the rest waits in a bounded queue, or is refused with 429.

    request ──enter──▶ queue of its key ──a key in turn──▶ engine ──leave──▶ the next
               │                                             how fast it drains is measured here
               └─▶ 429 with Retry-After: the queue is full

A key that asks a thousand times waits behind itself: the keys that wait are served in turn. Background work (batches)
gets a place only where nobody else waits and not all are taken; a place that it holds is no hindrance to others, for
the engine puts its texts back for theirs (by Request.priority). All of it lives in one event loop.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ownlm.server.errors import QUEUE_FULL, ApiError
from ownlm.server.limits import Limits

# How much the newest measurement of the drain weighs.
_NEWEST = 0.2
_LONGEST_RETRY = 120.0


@dataclass(eq=False)
class _Place:
    texts: int
    tokens: int
    background: bool = False
    free: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Admission:
    """`places`: texts that the engine may have, those that it writes and a few that wait to be begun.

    `background`: how many of them batches may take; None: all.
    """

    def __init__(self, places: int, limits: Limits, *, background: int | None = None) -> None:
        self.places, self._limits = places, limits
        self.background = places if background is None else background
        # Of others, and of the background.
        self._taken = [0, 0]
        self.rejected = 0
        # By class (0 before 1), then by key in turn.
        self._queues: tuple[OrderedDict[str, deque[_Place]], ...] = (OrderedDict(), OrderedDict())
        self._seconds_a_text: float | None = None
        self._last_left = time.monotonic()

    @property
    def taken(self) -> int:
        return sum(self._taken)

    @property
    def waiting(self) -> int:
        """Requests in front of the engine, batches not counted: those are not refused, they are just later."""
        return sum(len(queue) for queue in self._queues[0].values())

    @property
    def waiting_tokens(self) -> int:
        return sum(place.tokens for queue in self._queues[0].values() for place in queue)

    @asynccontextmanager
    async def place(self, key: str, *, texts: int, tokens: int, background: bool = False) -> AsyncIterator[None]:
        """Held while the request is at the engine. ApiError 429 at once where too much waits already."""
        # One that is larger than all places together gets them all.
        most = self.background if background else self.places
        place = _Place(texts=min(texts, most), tokens=tokens, background=background)
        if not background:
            self._refuse_when_full(tokens)
        queue = self._queues[int(background)].setdefault(key, deque())
        queue.append(place)
        self._hand_out()
        try:
            await place.free
        except asyncio.CancelledError:
            if place.free.done() and not place.free.cancelled():
                self._leave(place)
            else:
                self._forget(key, place, background)
            raise
        try:
            yield
        finally:
            self._leave(place)

    def retry_after(self) -> float:
        """Seconds until there should be room again, by how fast texts have left until now."""
        each = self._seconds_a_text or 1.0
        return min(_LONGEST_RETRY, max(1.0, each * (self.waiting + 1)))

    def _refuse_when_full(self, tokens: int) -> None:
        limits, waiting = self._limits, self.waiting
        if not waiting and self._taken[0] < self.places:
            return
        if waiting >= limits.waiting_requests:
            why = f"{waiting} requests wait already"
        elif waiting and self.waiting_tokens + tokens > limits.waiting_tokens:
            why = f"the requests that wait hold {self.waiting_tokens} tokens already"
        else:
            return
        self.rejected += 1
        raise ApiError(status=429, message=f"{why}; try again later", code=QUEUE_FULL, retry_after=self.retry_after())

    def _hand_out(self) -> None:
        while (found := self._next()) is not None:
            key, queue, queues = found
            if not self._fits(queue[0]):
                return
            place = queue.popleft()
            # The next turn is another key's.
            del queues[key]
            if queue:
                queues[key] = queue
            if not place.free.cancelled():
                self._taken[int(place.background)] += place.texts
                place.free.set_result(None)

    def _fits(self, place: _Place) -> bool:
        if place.background:
            return self.taken + place.texts <= self.background
        return self._taken[0] + place.texts <= self.places

    def _next(self) -> tuple[str, deque[_Place], OrderedDict[str, deque[_Place]]] | None:
        for queues in self._queues:
            for key, queue in queues.items():
                return key, queue, queues
        return None

    def _forget(self, key: str, place: _Place, background: bool) -> None:
        queues = self._queues[int(background)]
        if (queue := queues.get(key)) is not None and place in queue:
            queue.remove(place)
            if not queue:
                del queues[key]
        # What stood behind it may fit.
        self._hand_out()

    def _leave(self, place: _Place) -> None:
        now = time.monotonic()
        if not place.background and (self.waiting or self._taken[0] >= self.places):
            each = (now - self._last_left) / place.texts
            old = self._seconds_a_text
            self._seconds_a_text = each if old is None else (1 - _NEWEST) * old + _NEWEST * each
        if not place.background:
            self._last_left = now
        self._taken[int(place.background)] -= place.texts
        self._hand_out()
