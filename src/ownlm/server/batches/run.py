"""The work on batches: whatever is going is looked after, and a few lines are kept under way.

    every turn: ── validating ──▶ check the file, in a thread
                ── in_progress ─▶ may it go on (key, time, room)? then begin some of its lines, the owners in turn
                ── ending ──────▶ cancel its lines, within a step; write its files

A line waits in Admission behind everybody else, and its texts stand last in the engine's order, so that whoever comes
takes their places. Nothing that is kept here has to outlive the process: the store says what is left to do. One
process works on a --data folder's batches: the one that holds its lock.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO, TypeVar

from ownlm.artefact.lock import try_lock
from ownlm.server.batches.answer import Answered, answer, unanswered
from ownlm.server.batches.file import Stopped, check_input, write_outputs
from ownlm.server.batches.kept import Batch, Batches, Line
from ownlm.server.files import Files
from ownlm.server.principal import ANYBODY, Principal
from ownlm.server.service import Service

log = logging.getLogger("ownlm.server")
T = TypeVar("T")

# Seconds between looks, where nothing is told before; what has been kept long enough goes as often as that.
_LOOKS, _SWEEPS = 0.5, 60.0
_RESTS = 10.0
# Lines that wait for a place of their model's, so that one is there when a place is free.
_SPARE = 2


class BatchRunner:
    def __init__(self, service: Service, files: Files, batches: Batches) -> None:
        self._service, self._files, self._batches = service, files, batches
        self._lock: BinaryIO | None = None
        # By batch: its lines under way; the check or the writing of its files; until when either of both rests.
        self._lines: dict[str, dict[int, asyncio.Task[None]]] = {}
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self._rests: dict[tuple[str, str], float] = {}
        self._looked = self._swept = float("-inf")

    def hold(self) -> bool:
        """Is this the process that works on the folder's batches? It becomes that where no other is."""
        if self._lock is None:
            lock = (self._batches.store.folder / ".batches.lock").open("ab")
            if not try_lock(lock.fileno()):
                lock.close()
                return False
            self._lock = lock
        self._batches.worked = True
        return True

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                self._batches.news.clear()
                try:
                    await self._turn()
                except Exception:
                    # A disk that is full, a store that is locked: later it may be otherwise.
                    log.exception("batches could not be looked after; it is tried again")
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._batches.news.wait(), _LOOKS)
        finally:
            await self._leave()

    async def _turn(self) -> None:
        if self._service.draining:
            await self._leave()
            return
        if not self.hold():
            return
        now = time.monotonic()
        if now > self._swept + _SWEEPS:
            self._swept = now
            await asyncio.to_thread(self._batches.sweep, self._service.keep_seconds)
            await asyncio.to_thread(self._files.sweep, self._service.keep_seconds)
        going = await asyncio.to_thread(self._batches.going)
        for gone in self._lines.keys() - {batch.id for batch in going}:
            await self._cancel_lines(gone)
        thorough = now > self._looked + _LOOKS
        self._looked = now if thorough else self._looked
        for batch in going:
            await self._look_after(batch, thorough)
        await self._begin_lines([batch for batch in going if batch.status == "in_progress" and batch.left])

    async def _leave(self) -> None:
        """What is under way is begun again by whoever works here next."""
        self._batches.worked = False
        for id in list(self._lines):
            await self._cancel_lines(id)
        jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _look_after(self, batch: Batch, thorough: bool) -> None:
        job = self._jobs.get(batch.id)
        if job is not None:
            if job.get_name() == "check" and batch.status != "validating":
                job.cancel()
        elif batch.status in ("cancelling", "finalizing"):
            await self._cancel_lines(batch.id)
            self._begin_job(batch, "write")
        elif batch.status == "in_progress" and not batch.left:
            await asyncio.to_thread(self._batches.end, batch.id, "completed")
            self._batches.news.set()
        elif thorough and await asyncio.to_thread(self._end_early, batch):
            self._batches.news.set()
        elif batch.status == "validating" and all(job.get_name() != "check" for job in self._jobs.values()):
            self._begin_job(batch, "check")

    def _end_early(self, batch: Batch) -> bool:
        """Whose time or room is over, or whose key may this no more."""
        if batch.expires <= time.time():
            return self._batches.end(batch.id, "expired")
        principal = self._principal(batch.owner)
        if principal is None:
            code, message = "key_revoked", "the key of this batch opens nothing any more"
        elif not principal.may_call(batch.endpoint):
            code, message = "permission_denied", "the key of this batch may not use its endpoint any more"
        elif not self._files.has_room(batch.owner):
            code, message = "storage_full", "the room for this key's files is taken; delete some"
        else:
            return False
        error = {"code": code, "message": message, "param": None, "line": None}
        return self._batches.end(batch.id, "cancelled", [error])

    def _principal(self, owner: str) -> Principal | None:
        keys = self._service.keys
        return ANYBODY if keys is None else keys.of_owner(owner)

    def _rest(self, batch: Batch, what: str, seconds: float) -> None:
        self._rests[batch.id, what] = time.monotonic() + seconds

    def _rested(self, batch: Batch, what: str) -> bool:
        return self._rests.get((batch.id, what), 0.0) <= time.monotonic()

    def _begin_job(self, batch: Batch, name: str) -> None:
        async def guarded() -> None:
            try:
                await (self._check(batch) if name == "check" else self._write(batch))
            except Exception:
                log.exception("the files of %s could not be worked on; it is tried again", batch.id)
                self._rest(batch, "files", _RESTS)
            finally:
                del self._jobs[batch.id]
                self._batches.news.set()

        if self._rested(batch, "files"):
            self._jobs[batch.id] = asyncio.create_task(guarded(), name=name)

    async def _check(self, batch: Batch) -> None:
        going = True

        def check() -> None:
            principal = self._principal(batch.owner)
            if principal is None:
                return
            with suppress(Stopped):
                lines, errors = check_input(self._files, batch, self._service, principal, stopped=lambda: not going)
                if errors:
                    self._batches.fail(batch.id, errors)
                else:
                    self._batches.begin(batch.id, lines)

        try:
            await asyncio.to_thread(check)
        finally:
            going = False

    async def _write(self, batch: Batch) -> None:
        await asyncio.to_thread(write_outputs, self._files, self._batches, batch, partial(unanswered, batch))
        self._lines.pop(batch.id, None)
        for what in ("lines", "files"):
            self._rests.pop((batch.id, what), None)

    async def _begin_lines(self, batches: list[Batch]) -> None:
        """As many as there is room for, each of the owner who has the fewest under way."""
        under_way = Counter({id: len(tasks) for id, tasks in self._lines.items()})
        room = sum(one.admission.background + _SPARE for one in self._service.everything) - under_way.total()
        by_id = {batch.id: batch for batch in batches if self._rested(batch, "lines")}
        of_owner: Counter[str] = Counter()
        for batch in batches:
            of_owner[batch.owner] += under_way[batch.id]
        wanted: Counter[str] = Counter()
        for _ in range(room):
            free = [one for one in by_id.values() if wanted[one.id] + under_way[one.id] < one.left]
            if not free:
                break
            first = min(free, key=lambda one: of_owner[one.owner])
            wanted[first.id] += 1
            of_owner[first.owner] += 1
        for id, count in wanted.items():
            tasks = self._lines.setdefault(id, {})
            for line in await asyncio.to_thread(self._batches.take, id, list(tasks), count):
                tasks[line.number] = asyncio.create_task(self._line(by_id[id], line))

    async def _line(self, batch: Batch, line: Line) -> None:
        """Asked, and its answer entered; or left for later."""
        try:
            principal = await asyncio.to_thread(self._principal, batch.owner)
            found = await answer(self._service, self._files, batch, line, principal)
            if isinstance(found, Answered):
                await _whole(
                    asyncio.to_thread(
                        self._batches.record, batch.id, line.number, found.text, ok=found.ok, usage=found.usage
                    )
                )
                # A quota that others of its lines had reserved may be free again.
                self._rests.pop((batch.id, "lines"), None)
            else:
                self._rest(batch, "lines", found.seconds)
                if not found.blamed:
                    await asyncio.to_thread(self._batches.put_back, batch.id, [line.number])
        except Exception:
            log.exception("line %d of %s could not be entered; it is asked again", line.number, batch.id)
            self._rest(batch, "lines", _RESTS)
        finally:
            self._lines.get(batch.id, {}).pop(line.number, None)
            self._batches.news.set()

    async def _cancel_lines(self, id: str) -> None:
        tasks = self._lines.pop(id, {})
        numbers = list(tasks)
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        if numbers:
            await asyncio.to_thread(self._batches.put_back, id, numbers)


async def _whole(work: Coroutine[Any, Any, T]) -> T:
    """`work` to its end, also when the waiting is cancelled: a thread cannot be called back."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
