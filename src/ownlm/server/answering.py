"""Answers to one checked request: submitted, read as they are drawn, and let go of however the reading ends.

    Asked ──submit──▶ one AsyncAnswer a prompt ──bunches──▶ (index of the choice, its pieces)
                                                   │
                 a deadline, a client that has gone, an error: all are cancelled within a step

A choice's index counts through all prompts: prompt 0's n answers first.
"""

import asyncio
import time
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import Request as HttpRequest

from ownlm.engine import Piece, Request
from ownlm.engine.background import AsyncAnswer
from ownlm.errors import OwnlmError
from ownlm.server.errors import ApiError, of_engine
from ownlm.server.guard.refusal import CONTENT_FILTER, quiet_id, refusal_piece
from ownlm.server.hosted import Hosted, Served
from ownlm.server.hosted_embedder import HostedEmbedder
from ownlm.server.last_prompts import first_difference
from ownlm.server.principal import Principal
from ownlm.server.shelf import Shelf

if TYPE_CHECKING:
    from ownlm.server.guard.guard import Guard

# The priority of what is in the background: behind everybody, and among its like by what a request names.
_LAST, _OWN = 1_000_000, 1_000
# While so many texts are written, what comes of one within so many seconds is told together: an event costs as much
# with five tokens as with one.
MANY, JOIN_SECONDS = 4, 0.02


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What every dialect makes of a body: the engine's requests, one a prompt, for one model.

    `background`: it waits behind everybody, however long. `seconds`: for its answer, where not as for all requests.
    """

    served: Served
    requests: Sequence[Request]
    background: bool = False
    seconds: float | None = None

    @property
    def hosted(self) -> Hosted:
        return self.served.hosted

    @property
    def prompt_tokens(self) -> int:
        return sum(len(request.prompt) for request in self.requests)

    @property
    def texts(self) -> int:
        return sum(request.sampling.n for request in self.requests)

    def behind(self, *, seconds: float | None) -> "Asked":
        """The same in the background: behind everybody, whatever priority a request names among its like."""
        last = [replace(one, priority=_LAST + max(-_OWN, min(_OWN, one.priority))) for one in self.requests]
        return replace(self, requests=last, background=True, seconds=seconds)


Bunch = tuple[int, list[Piece]]


@dataclass(kw_only=True)
class Answering:
    """Read `bunches` once. Afterwards, and in between, the figures are right for what was read.

    `began` and `first_piece` are times of the monotonic clock; `gaps` are seconds between two tokens of a choice.
    `guard`: who decides what of it may be sent to `principal`. `refusal`: what every choice says instead of an answer.
    """

    asked: Asked
    answers: list[AsyncAnswer]
    seconds: float
    # The key's prompts before the first of these.
    before: "Sequence[array[int]]" = ()
    began: float = field(default_factory=time.monotonic)
    first_piece: float | None = None
    completion_tokens: int = 0
    gaps: list[float] = field(default_factory=list)
    finished: dict[str, int] = field(default_factory=dict)
    guard: "Guard | None" = None
    principal: Principal | None = None
    refusal: str | None = None

    def bunches(self) -> AsyncGenerator[Bunch]:
        """What may be sent: pieces of one choice that are there together."""
        if self.refusal is not None:
            return self._refused(self.refusal)
        if self.guard is None or self.principal is None:
            return self.drawn()
        return self.guard.said(self, self.principal)

    async def _refused(self, refusal: str) -> AsyncGenerator[Bunch]:
        for index in range(self.asked.texts):
            yield index, [refusal_piece(refusal, quiet_id(self.asked.hosted))]

    def ended_by_guard(self, reason: str | None) -> None:
        """A choice has ended in a refusal, whether or not the engine has ended it as well."""
        if reason is not None:
            self.finished[reason] -= 1
        self.finished[CONTENT_FILTER] = self.finished.get(CONTENT_FILTER, 0) + 1

    async def drawn(self) -> AsyncGenerator[Bunch]:
        """Pieces of one choice that are there together: more than one where the reader is slower than the engine."""
        several = len(self.answers) > 1
        last: dict[int, float] = {}
        late = False

        def expire() -> None:
            nonlocal late
            late = True
            self.cancel()

        timer = asyncio.get_running_loop().call_later(self.seconds, expire)
        try:
            async with aclosing(self._merged() if several else self._single()) as bunches:
                async for bunch in bunches:
                    now, before = time.monotonic(), last.get(bunch[0])
                    last[bunch[0]] = now
                    if self.first_piece is None:
                        self.first_piece = now
                    if before is not None:
                        self.gaps += [(now - before) / len(bunch[1])] * len(bunch[1])
                    self.completion_tokens += len(bunch[1])
                    if (reason := bunch[1][-1].finish_reason) is not None:
                        self.finished[reason] = self.finished.get(reason, 0) + 1
                    yield bunch
        except OwnlmError as error:
            raise of_engine(error) from error
        finally:
            timer.cancel()
        if late:
            message = "the answer was not whole in the time that a request has here, and was given up"
            raise ApiError(status=504, message=message, code="deadline_exceeded")

    @property
    def prompt_tokens(self) -> int:
        return self.asked.prompt_tokens

    def prompt_details(self, *, explained: bool | None) -> dict[str, Any]:
        """OpenAI's prompt_tokens_details; `explained`: with why no more of the (first) prompt was found computed."""
        found: dict[str, Any] = {"cached_tokens": self.cached_tokens}
        if explained:
            difference = first_difference(self.asked.requests[0].prompt, self.before)
            found["first_difference"] = difference and difference.told(self.asked.hosted.files.tokenizer)
        return found

    @property
    def cached_tokens(self) -> int:
        """Of the prompts, found computed."""
        return sum(answer.ticket.cached_tokens for answer in self.answers if answer.ticket is not None)

    def cancel(self) -> None:
        _cancel(self.answers)

    async def _single(self, place: int = 0) -> AsyncGenerator[Bunch]:
        answer = self.answers[place]
        base = sum(one.request.sampling.n for one in self.answers[:place])
        async with aclosing(aiter(answer)) as pieces:
            async for piece in pieces:
                for choice, bunch in _by_choice([piece, *answer.take_ready()]).items():
                    yield base + choice, bunch
                if self.asked.hosted.admission.taken >= MANY:
                    await answer.gather(JOIN_SECONDS)

    async def _merged(self) -> AsyncGenerator[Bunch]:
        ready: asyncio.Queue[Bunch | None] = asyncio.Queue()

        async def pump(place: int) -> None:
            try:
                async with aclosing(self._single(place)) as bunches:
                    async for bunch in bunches:
                        ready.put_nowait(bunch)
            finally:
                ready.put_nowait(None)

        tasks = [asyncio.create_task(pump(place)) for place in range(len(self.answers))]
        try:
            ended = 0
            while ended < len(tasks):
                bunch = await ready.get()
                if bunch is None:
                    ended += 1
                else:
                    yield bunch
            for task in tasks:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def answering(asked: Asked, principal: Principal, shelf: Shelf, *, seconds: float) -> AsyncIterator[Answering]:
    """Wait for a place at the engine and until it is loaded, submit; on leaving, what is not finished is cancelled.

    ApiError where the queue is full, a request cannot be answered, or the place does not come within `seconds`.
    """
    began = time.monotonic()
    place = placed(
        asked.hosted,
        principal,
        shelf,
        texts=asked.texts,
        tokens=asked.prompt_tokens,
        background=asked.background,
        seconds=seconds,
    )
    async with place, AsyncExitStack() as held:
        waited = time.monotonic() - began
        answers: list[AsyncAnswer] = []
        adapter = asked.served.adapter
        held.callback(_cancel, answers)
        try:
            for request in asked.requests:
                # Only a grammar takes time to be taken.
                submit = partial(asked.hosted.submit, request, adapter)
                answers.append(submit() if request.grammar is None else await asyncio.to_thread(submit))
        except OwnlmError as error:
            raise of_engine(error) from error
        # Only now are the ids known to be tokens'.
        before, *_ = [asked.hosted.last_prompts.note(request, adapter) for request in asked.requests]
        left = seconds if asked.background else seconds - waited
        yield Answering(asked=asked, answers=answers, before=before, seconds=left)


@asynccontextmanager
async def placed(
    model: Hosted | HostedEmbedder,
    principal: Principal,
    shelf: Shelf,
    *,
    texts: int,
    tokens: int,
    background: bool,
    seconds: float,
) -> AsyncIterator[None]:
    """A place at a model that is loaded, waited for no longer than `seconds`; in the background as long as it takes."""
    began, admission = time.monotonic(), model.admission
    async with AsyncExitStack() as held:
        try:
            async with asyncio.timeout(None if background else seconds):
                await held.enter_async_context(
                    admission.place(principal.id, texts=texts, tokens=tokens, background=background)
                )
        except TimeoutError:
            message = f"no place at the engine was free within {seconds:g} seconds"
            retry = admission.retry_after()
            raise ApiError(status=503, message=message, code="deadline_exceeded", retry_after=retry) from None
        left = None if background else began + seconds - time.monotonic()
        await held.enter_async_context(shelf.use(model, seconds=left, background=background))
        yield


async def unless_gone(http: HttpRequest, work: "asyncio.Future[Any] | Any") -> Any:
    """The result of `work`, which is cancelled as soon as the client has gone."""
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_disconnected(http))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ApiError(status=408, message="the client has gone")
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


def _cancel(answers: Sequence[AsyncAnswer]) -> None:
    for answer in answers:
        answer.cancel()


def _by_choice(pieces: Sequence[Piece]) -> dict[int, list[Piece]]:
    found: dict[int, list[Piece]] = {}
    for piece in pieces:
        found.setdefault(piece.choice, []).append(piece)
    return found
