"""Responses under way: those that a client waits for, and those in the background, which nobody needs to wait for.

Question ─▶ begun in the store ─▶ answered ─▶ ended in the store ─▶ the last event
                                     │
    foreground: cancelled when its client leaves          background: a Run; any number of clients follow its events
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from ownlm.server.answering import Answering
from ownlm.server.errors import ApiError
from ownlm.server.principal import Principal
from ownlm.server.responses.kept import Kept

if TYPE_CHECKING:
    from ownlm.server.responses.body import Question
    from ownlm.server.service import Service

log = logging.getLogger("ownlm.server")

_BETWEEN_EXPIRIES = 3600.0


class Run:
    """A background response: it goes on whoever listens."""

    def __init__(self, question: "Question") -> None:
        self.question = question
        self.events: list[bytes] = []
        self.ended = False
        self.task: asyncio.Task[None] | None = None
        self.stopped_by: ApiError | None = None
        self._stopping = False
        self._news = asyncio.Event()

    @property
    def response(self) -> dict[str, Any]:
        return self.question.writer.response

    def put(self, event: bytes) -> None:
        if self.question.stream:
            self.events.append(event)
        self._tell()

    def end(self) -> None:
        self.ended = True
        self._tell()

    async def follow(self, after: int) -> AsyncGenerator[bytes]:
        """Its events behind number `after`, until the last."""
        place = after + 1
        while True:
            while place < len(self.events):
                yield self.events[place]
                place += 1
            if self.ended:
                return
            await self._news.wait()

    async def stop(self, because: ApiError | None = None) -> None:
        """Wait until it has ended: cancelled, or failed where that has a cause of its own."""
        assert self.task is not None
        if not self._stopping and not self.question.writer.ended:
            # Once: a second time would break off how it ends.
            self._stopping, self.stopped_by = True, because
            self.task.cancel()
        await asyncio.wait({self.task})

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Responses:
    """`kept` None: nothing is stored, and so nothing goes on in the background."""

    def __init__(self, kept: Kept | None = None) -> None:
        self.kept = kept
        self._runs: dict[str, Run] = {}
        self._expiring: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """To be called before anything is asked."""
        if self.kept is not None:
            await asyncio.to_thread(self.kept.open)
            self._expiring = asyncio.create_task(self._expire())

    async def close(self) -> None:
        if self._expiring is not None:
            self._expiring.cancel()
            with suppress(asyncio.CancelledError):
                await self._expiring
        ending = ApiError(status=503, message="the server ended before the answer was whole; ask again")
        await asyncio.gather(*(run.stop(ending) for run in list(self._runs.values()) if run.task))
        if self.kept is not None:
            self.kept.close()

    def running(self, owner: str, id: str) -> Run | None:
        run = self._runs.get(id)
        return run if run is not None and run.question.owner == owner else None

    async def foreground(self, question: "Question", answers: Answering) -> AsyncGenerator[bytes]:
        """All events; as the last one comes the response is in the store."""
        writer = question.writer
        await self._begin(question)
        try:
            yield writer.created()
            async with aclosing(_written(question, answers)) as events:
                async for event in events:
                    yield event
        finally:
            writer.cancel()  # nothing where it has ended
            await self._end(question)
        yield writer.last()

    async def background(self, question: "Question", service: "Service", principal: Principal) -> Run:
        """Begun, and kept as such before its first word."""
        mine = sum(run.question.owner == question.owner for run in self._runs.values())
        if mine >= service.limits.waiting_requests:
            message = f"{mine} responses are under way in the background already; try again later"
            raise ApiError(status=429, message=message, code="queue_full", retry_after=10)
        run = self._runs[question.id] = Run(question)
        try:
            await self._begin(question)
        except BaseException:
            del self._runs[question.id]
            raise
        run.put(question.writer.created())
        run.task = asyncio.create_task(self._run(run, service, principal))
        await asyncio.sleep(0)  # a task that is cancelled before it begins would never end in order
        return run

    async def _run(self, run: Run, service: "Service", principal: Principal) -> None:
        question = run.question
        writer = question.writer
        try:
            async with (
                service.answering(question.asked, principal) as answers,
                aclosing(_written(question, answers)) as events,
            ):
                async for event in events:
                    run.put(event)
        except ApiError as error:
            writer.fail(error)
        except asyncio.CancelledError:
            if run.stopped_by is not None:
                writer.fail(run.stopped_by)
        except Exception as error:
            log.error("a fault of ours in a background response", exc_info=error)
            writer.fail(ApiError(status=500, message="a fault of ours; the server's log has it"))
        finally:
            writer.cancel()  # nothing where it has ended
            run.put(writer.last())
            try:
                await self._end(question, run.events)
            finally:
                run.end()
                del self._runs[question.id]

    async def _begin(self, question: "Question") -> None:
        if question.store and self.kept is not None:
            await asyncio.to_thread(self.kept.begin, question.owner, question.writer.response, question.items)

    async def _end(self, question: "Question", events: list[bytes] | None = None) -> None:
        if question.store and self.kept is not None:
            work = asyncio.to_thread(self.kept.end, question.owner, question.writer.response, events or ())
            # Written also where the one who waits here is cancelled a second time.
            await asyncio.shield(asyncio.ensure_future(work))

    async def _expire(self) -> None:
        assert self.kept is not None
        while True:
            try:
                if gone := await asyncio.to_thread(self.kept.expire):
                    log.info("%d responses were old enough to be deleted", gone)
            except Exception as error:
                log.error("old responses cannot be deleted", exc_info=error)
            await asyncio.sleep(_BETWEEN_EXPIRIES)


async def _written(question: "Question", answers: Answering) -> AsyncGenerator[bytes]:
    """From in_progress to the last item's end. A response whose answer breaks off has failed, and ApiError goes on."""
    writer = question.writer
    yield writer.in_progress()
    reason = None
    try:
        async with aclosing(answers.bunches()) as bunches:
            async for _, pieces in bunches:
                for event in writer.push(pieces):
                    yield event
                reason = pieces[-1].finish_reason
        for event in writer.finish(reason):
            yield event
    except ApiError as error:
        writer.fail(error)
        raise
    finally:
        writer.count(answers)
