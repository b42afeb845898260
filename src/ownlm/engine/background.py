"""The engine on a thread of its own, for servers: requests come from any thread or asyncio task.

    with EngineThread(engine) as background:
        answer = background.submit(request)            # refused here and at once if it cannot be answered
        async for piece in answer: ...                 # in asyncio; `for piece in answer` in a thread

    callers ──submit, cancel──▶ (asked) ──▶ thread: add, step, step ... ──pieces──▶ each caller's own answer

An answer keeps what its reader has not taken yet, so that a slow one delays nobody. After a step all tasks of an event
loop that wait for it are woken together: waking one is a write to a socket, and a quarrel about Python's lock.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from ownlm.engine.engine import Engine
from ownlm.engine.request import Piece, Request, Ticket
from ownlm.errors import OwnlmError


class QueueFull(OwnlmError):
    """As many requests wait as may; later there is place again."""


class EngineStopped(OwnlmError):
    """The engine was stopped or has failed: it takes and answers nothing more."""


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Now: texts, blocks, and how long the present step has been going (0 between steps; long means stuck).

    Since the start: requests and tokens. cached_tokens, of prompts, were found computed; accepted are the drafted
    that were right. A request's own figures are added when it has ended.
    """

    running: int
    waiting: int
    blocks: int
    blocks_used: int
    step_seconds: float
    preemptions: int
    requests: int
    prompt_tokens: int
    cached_tokens: int
    drawn_tokens: int
    drafted_tokens: int
    accepted_tokens: int


# A task that waits: its loop, and what it waits for.
_Waiting = tuple[asyncio.AbstractEventLoop, asyncio.Event]


class AsyncAnswer:
    """Pieces of one request as they are drawn, for one reader: `async for` or `for`.

    Leaving the loop cancels the request, and so does cancelling the task that waits in it. `ticket` has prompt_tokens,
    cached_tokens and the like; it is None until the engine has taken the request.
    """

    def __init__(self, request: Request, cancel: "Callable[[AsyncAnswer], None]") -> None:
        self.request = request
        self.ticket: Ticket | None = None
        self._cancel = cancel
        self._news = threading.Condition()
        self._pieces: deque[Piece] = deque()
        self._ended = False
        self._error: OwnlmError | None = None
        self._waiting: _Waiting | None = None
        self._at_end: _Waiting | None = None

    def cancel(self) -> None:
        """Stop answering; from any thread, at any time. Nothing happens to an answer that has ended."""
        if not self._ended:
            _wake([self._put([], ended=True)])
            self._cancel(self)

    def take_ready(self) -> list[Piece]:
        """The pieces that are there already; for the reader, between two steps of its loop."""
        with self._news:
            ready = list(self._pieces)
            self._pieces.clear()
        return ready

    async def gather(self, seconds: float) -> None:
        """Let pieces come for so long, or until the last of them is there; for who reads in asyncio."""
        ended = asyncio.Event()
        with self._news:
            if self._ended:
                return
            self._at_end = (asyncio.get_running_loop(), ended)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await ended.wait()
        self._at_end = None

    def __iter__(self) -> Iterator[Piece]:
        try:
            while True:
                with self._news:
                    self._news.wait_for(lambda: self._pieces or self._ended)
                    piece = self._next()
                if piece is None:
                    return
                yield piece
        finally:
            self.cancel()

    async def __aiter__(self) -> AsyncGenerator[Piece]:
        loop = asyncio.get_running_loop()
        try:
            while True:
                news = asyncio.Event()
                with self._news:
                    waits = not self._pieces and not self._ended
                    piece = None if waits else self._next()
                    self._waiting = (loop, news) if waits else None
                if waits:
                    await news.wait()
                elif piece is None:
                    return
                else:
                    yield piece
        finally:
            self.cancel()

    def _next(self) -> Piece | None:
        """None at the end."""
        if self._pieces:
            return self._pieces.popleft()
        if self._error is not None:
            raise self._error
        return None

    def _put(
        self, pieces: Iterable[Piece], *, ended: bool = False, error: OwnlmError | None = None
    ) -> "_Waiting | None":
        """Returns who is to be woken for it."""
        with self._news:
            if self._ended:
                return None
            self._pieces.extend(pieces)
            self._ended, self._error = ended, error
            self._news.notify_all()
            waiting = self._waiting or (self._at_end if ended else None)
            self._waiting = None
        return waiting


def _wake(waiting: Iterable[_Waiting | None]) -> None:
    """Each loop once, whoever waits in it."""
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Event]] = {}
    for one in waiting:
        if one is not None:
            loops.setdefault(one[0], []).append(one[1])
    for loop, events in loops.items():
        # A loop that was closed under its readers: nobody waits any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_set_all, events)


def _set_all(events: Iterable[asyncio.Event]) -> None:
    for event in events:
        event.set()


class EngineThread:
    """`most_waiting`: requests that may wait besides those that the engine answers at once; None: any number."""

    def __init__(self, engine: Engine, *, most_waiting: int | None = None) -> None:
        self.engine = engine
        self._most = None if most_waiting is None else engine.config.max_sequences + most_waiting
        self._thread = threading.Thread(target=self._run, name="ownlm-engine", daemon=True)
        self._turn = threading.Condition()
        self._asked: list[AsyncAnswer] = []
        self._cancelled: list[AsyncAnswer] = []
        # Everyone who has not got an end yet; of them those that the engine has, by their ticket's id.
        self._going: set[AsyncAnswer] = set()
        self._answers: dict[int, AsyncAnswer] = {}
        # Who is to be woken when this step's pieces are all handed out.
        self._woken: list[_Waiting | None] = []
        self._stopped: EngineStopped | None = EngineStopped("the engine is not started")
        self._step_began: float | None = None
        self._requests = self._prompt = self._cached = self._drawn = self._drafted = self._accepted = 0

    def start(self) -> "EngineThread":
        self._stopped = None
        self._thread.start()
        return self

    def stop(self) -> None:
        """End after the step that is going; whoever still waits gets EngineStopped."""
        with self._turn:
            self._stopped = self._stopped or EngineStopped("the engine was stopped")
            self._turn.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def __enter__(self) -> "EngineThread":
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Does it take requests? See Stats.step_seconds for a step that hangs."""
        return self._stopped is None

    def submit(self, request: Request) -> AsyncAnswer:
        """OwnlmError where the request cannot be answered, QueueFull where too many wait, EngineStopped after the end.

        Compiles the request's grammar, which may take a second: in asyncio call it by asyncio.to_thread.
        """
        self.engine.check(request)
        answer = AsyncAnswer(request, self._ask_to_cancel)
        with self._turn:
            if self._stopped is not None:
                raise EngineStopped(str(self._stopped)) from self._stopped.__cause__
            if self._most is not None:
                texts = sum(going.request.sampling.n for going in self._going)
                if texts >= self._most:
                    raise QueueFull(f"{texts} answers are under way or waiting, more are not taken; try again later")
            self._going.add(answer)
            self._asked.append(answer)
            self._turn.notify()
        return answer

    def stats(self) -> Stats:
        scheduler, began = self.engine.scheduler, self._step_began
        return Stats(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting) + len(self._asked),
            blocks=scheduler.blocks.count,
            blocks_used=scheduler.blocks.count - scheduler.blocks.free,
            step_seconds=0.0 if began is None else time.monotonic() - began,
            preemptions=scheduler.preemptions,
            requests=self._requests,
            prompt_tokens=self._prompt,
            cached_tokens=self._cached,
            drawn_tokens=self._drawn,
            drafted_tokens=self._drafted,
            accepted_tokens=self._accepted,
        )

    def _ask_to_cancel(self, answer: AsyncAnswer) -> None:
        with self._turn:
            self._cancelled.append(answer)
            self._turn.notify()

    def _run(self) -> None:
        try:
            while self._take_news():
                self._step_began = time.monotonic()
                for ticket in self.engine.step():
                    self._hand_out(ticket)
                self._step_began = None
                self._wake_readers()
        except BaseException as error:
            failure = EngineStopped(f"the engine has failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            with self._turn:
                self._stopped = failure
        finally:
            self._end_all()

    def _take_news(self) -> bool:
        """Wait for something to do, and take what was asked since; False at the end."""
        with self._turn:
            self._turn.wait_for(lambda: self._stopped or self._asked or self._cancelled or not self.engine.idle)
            asked, self._asked = self._asked, []
            cancelled, self._cancelled = self._cancelled, []
        for answer in asked:
            try:
                answer.ticket = self.engine.add(answer.request)
                self._answers[answer.ticket.id] = answer
            except OwnlmError as error:
                self._end(answer, error)
        self._wake_readers()
        for answer in cancelled:
            if answer in self._going and answer.ticket is not None:
                self.engine.cancel(answer.ticket)
                self._hand_out(answer.ticket)
        self._wake_readers()
        return self._stopped is None

    def _hand_out(self, ticket: Ticket) -> None:
        answer = self._answers[ticket.id]
        self._drawn += len(ticket.pieces)
        self._woken.append(answer._put(ticket.pieces))
        ticket.pieces.clear()
        if ticket.finished:
            del self._answers[ticket.id]
            self._requests += 1
            self._prompt += len(ticket.request.prompt)
            self._cached += ticket.cached_tokens
            self._drafted += ticket.drafted
            self._accepted += ticket.accepted
            self._end(answer, None if ticket.error is None else OwnlmError(ticket.error))

    def _end(self, answer: AsyncAnswer, error: OwnlmError | None) -> None:
        with self._turn:
            self._going.discard(answer)
        self._woken.append(answer._put([], ended=True, error=error))

    def _wake_readers(self) -> None:
        woken, self._woken = self._woken, []
        _wake(woken)

    def _end_all(self) -> None:
        """Nobody is left waiting; the engine lets go of their blocks, as far as it still can."""
        self._step_began = None
        with self._turn:
            stopped, left = self._stopped, list(self._going)
        for answer in left:
            with suppress(Exception):
                if answer.ticket is not None:
                    self.engine.cancel(answer.ticket)
            assert stopped is not None
            # One of its own for each: a traceback grows as an exception is raised again.
            error = EngineStopped(str(stopped))
            error.__cause__ = stopped.__cause__
            self._end(answer, error)
        self._wake_readers()
