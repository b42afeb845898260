"""Models that are loaded when they are asked for, and unloaded when others need their memory, or after a time.

    use(model) ──loaded?──────────────────────────────────────▶ counted as in use until the block ends
                   │ no
                   ▼
        one load at a time: does it fit? ──no──▶ unload those used longest ago, never one in use or pinned
                   │                                   │ still not: 503 with the figures
                   ▼                                   ▼
        read in a thread, then put in place; whoever asks for the same waits for the same load

Estimates decide, made before anything is read (opened/outline.py). All state is the event loop's: a model is taken
from its place there before its thread is ended, so that who comes in between waits and has it loaded again.

Batches and what else is in the background stand behind everybody here too: they wait where others are refused, push
out only what nobody has used for a while, and stop using a model whose memory a request was refused for.
"""

import asyncio
import gc
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from ownlm.errors import OwnlmError
from ownlm.machine import give_back_memory
from ownlm.server.admission import Admission
from ownlm.server.errors import LOAD_FAILED, NO_ROOM, ApiError
from ownlm.server.metrics import Metrics

log = logging.getLogger("ownlm.server")
T = TypeVar("T")

# Seconds between looks, of what is in the background; so long a model must have been unused for that to push it out,
# and so long it keeps off the others after a request was refused.
_LOOKS, _SETTLED, _KEEPS_OFF = 0.25, 30.0, 30.0
# For who comes while a model is loaded, or while those in use have not ended an answer yet.
_RETRY = 10.0


@dataclass(frozen=True, kw_only=True)
class Room:
    """most_bytes: for all loaded models together; None: no bound. idle_seconds: after which an unused one is unloaded;
    None: never.
    """

    most_bytes: int | None = None
    idle_seconds: float | None = None


class OnShelf(ABC):
    """A model with what is always there of it, and what is loaded.

    bytes: that it takes while it is loaded, estimated. pinned: it is never unloaded. can_load: False for one that was
    given loaded, which stays so.
    """

    name: str
    admission: Admission
    bytes: int = 0
    pinned: bool = False
    can_load: bool = False
    uses: int = 0
    last_used: float = float("-inf")

    @property
    @abstractmethod
    def loaded(self) -> bool: ...

    @abstractmethod
    def load(self) -> Callable[[], None]:
        """Read it, which takes time; what is returned puts it in place, in the event loop."""

    @abstractmethod
    def unload(self) -> Callable[[], None]:
        """Take it from its place, in the event loop; what is returned ends it, which takes time."""

    @property
    def idle(self) -> bool:
        """Is nobody answered by it, and does nobody wait?"""
        return not self.admission.taken and not self.admission.waiting

    @property
    def may_go(self) -> bool:
        return self.loaded and self.can_load and not self.pinned and not self.uses


class Shelf:
    """OwnlmError for a model that does not fit beside those that are pinned."""

    def __init__(self, models: Iterable[OnShelf], room: Room, metrics: Metrics) -> None:
        self.models, self.room = list(models), room
        self._metrics = metrics
        self._one = asyncio.Lock()
        self._loading: dict[OnShelf, asyncio.Task[ApiError | None]] = {}
        # For which a request was refused, and until when the background keeps off the others for it.
        self._wanted: tuple[OnShelf, float] | None = None
        for model in self.models:
            metrics.loaded.labels(model.name).set(model.loaded)
            self._refuse_what_never_fits(model)

    def load_now(self, models: Iterable[OnShelf]) -> None:
        """Before anything is asked; OwnlmError where one cannot be loaded, or not all of them fit."""
        models = list(models)
        most = self.room.most_bytes
        if most is not None and (asked := sum(model.bytes for model in models)) > most:
            names = ", ".join(model.name for model in models)
            raise OwnlmError(
                f"{names} take {size(asked)} of memory together, and {size(most)} may be used; load fewer at the "
                "start, or give more by --memory"
            )
        for model in models:
            began = time.monotonic()
            self._put(model, model.load(), began)

    @asynccontextmanager
    async def use(self, model: OnShelf, *, seconds: float | None, background: bool = False) -> AsyncIterator[None]:
        """While the block goes on it is loaded, and stays so. `seconds`: the most to wait for that.

        ApiError 503 where there is no room for it, or it cannot be loaded; in the background it is waited for room.
        """
        while background and self._keeps_off(model):
            await asyncio.sleep(_LOOKS)
        model.uses += 1
        try:
            if not model.loaded:
                await self._wait(model, seconds, background=background)
            yield
        finally:
            model.uses -= 1
            model.last_used = time.monotonic()

    async def unload_idle(self) -> None:
        """To be called now and then."""
        idle = self.room.idle_seconds
        if idle is None or self._one.locked():
            return
        for model in self.models:
            if model.may_go and model.last_used < time.monotonic() - idle:
                async with self._one:
                    if model.may_go:
                        await self._unload(model, "idle")

    async def close(self) -> None:
        """Nothing is loaded any more; a load that is going is left to itself, and what it reads goes nowhere."""
        loads = list(self._loading.values())
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)

    async def _wait(self, model: OnShelf, seconds: float | None, *, background: bool) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not model.loaded:
                    if background and model not in self._loading and self._to_unload(model, settled=_SETTLED) is None:
                        await asyncio.sleep(_LOOKS)
                        continue
                    error = await asyncio.shield(self._load_of(model))
                    if error is not None and not (background and error.code == NO_ROOM):
                        # One of its own for each: a traceback grows as an exception is raised again.
                        raise replace(error)
        except TimeoutError:
            message = f"{model.name} was not loaded within the time that a request has here; try again"
            raise ApiError(status=503, message=message, code="deadline_exceeded", retry_after=_RETRY) from None

    def _load_of(self, model: OnShelf) -> "asyncio.Task[ApiError | None]":
        """The one that is going, or a new one: it goes on when those who wait for it leave."""
        if (loading := self._loading.get(model)) is None:
            loading = self._loading[model] = asyncio.create_task(self._load(model))
        return loading

    async def _load(self, model: OnShelf) -> ApiError | None:
        try:
            return await self._loaded(model)
        finally:
            del self._loading[model]

    async def _loaded(self, model: OnShelf) -> ApiError | None:
        async with self._one:
            if model.loaded or not model.uses:
                return None
            # Looked up anew each time: one that was to go may be in use by now.
            while others := self._to_unload(model):
                await self._unload(others[0], "memory")
            if others is None:
                self._wanted = (model, time.monotonic() + _KEEPS_OFF)
                return self._no_room(model)
            began = time.monotonic()
            try:
                self._put(model, await in_thread(model.load), began)
            except Exception as error:
                # Files that are gone, no memory, a kernel that cannot be had: the server goes on with the others.
                log.error("%s could not be loaded: %s", model.name, error, exc_info=not isinstance(error, OwnlmError))
                message = f"{model.name} could not be loaded; the server's log says why"
                return ApiError(status=503, message=message, code=LOAD_FAILED)
            return None

    def _put(self, model: OnShelf, put: Callable[[], None], began: float) -> None:
        put()
        model.last_used = time.monotonic()
        if self._wanted is not None and self._wanted[0] is model:
            self._wanted = None
        seconds = model.last_used - began
        log.info("%s is loaded, in %.1f s (%s)", model.name, seconds, size(model.bytes))
        self._metrics.loaded.labels(model.name).set(1)
        self._metrics.load_seconds.labels(model.name).observe(seconds)

    async def _unload(self, model: OnShelf, why: str) -> None:
        end = model.unload()
        self._metrics.loaded.labels(model.name).set(0)
        self._metrics.unloads.labels(model.name, why).inc()
        await in_thread(end)
        del end
        await in_thread(_collect)
        log.info("%s is unloaded (%s)", model.name, "nobody has used it" if why == "idle" else "another needs the room")

    def _to_unload(self, model: OnShelf, *, settled: float = 0.0) -> Sequence[OnShelf] | None:
        """Those used longest ago, until `model` fits; None: it does not. `settled`: and not within so many seconds."""
        if self.room.most_bytes is None:
            return []
        free = self.room.most_bytes - sum(one.bytes for one in self.models if one.loaded)
        since = time.monotonic() - settled
        going: list[OnShelf] = []
        for other in sorted((one for one in self.models if one.may_go), key=lambda one: one.last_used):
            if free >= model.bytes:
                break
            if other.last_used <= since:
                going.append(other)
                free += other.bytes
        return going if free >= model.bytes else None

    def _keeps_off(self, model: OnShelf) -> bool:
        if self._wanted is None or model.pinned or not model.can_load:
            return False
        wanted, until = self._wanted
        return model is not wanted and time.monotonic() < until

    def _no_room(self, model: OnShelf) -> ApiError:
        assert self.room.most_bytes is not None
        used = [one for one in self.models if one.loaded and not one.may_go]
        busy = [one.admission.retry_after() for one in used if one.uses]
        return ApiError(
            status=503,
            message=f"{model.name} takes {size(model.bytes)} of memory; {size(self.room.most_bytes)} may be used, "
            f"and {size(sum(one.bytes for one in used))} are, by models that are at work or pinned; try again later",
            code=NO_ROOM,
            retry_after=min(busy, default=_RETRY),
        )

    def _refuse_what_never_fits(self, model: OnShelf) -> None:
        most = self.room.most_bytes
        stays = sum(one.bytes for one in self.models if one is not model and (one.pinned or not one.can_load))
        if most is not None and stays + model.bytes > most:
            beside = f" beside {size(stays)} of those that stay" if stays else ""
            raise OwnlmError(
                f"{model.name} takes {size(model.bytes)} of memory{beside}, and {size(most)} may be used; give more "
                "by --memory, or fewer --cache-tokens"
            )


async def in_thread(work: Callable[[], T]) -> T:
    """As asyncio.to_thread, but a process that is told to end does not wait for it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failed = None, None
        try:
            result = work()
        except Exception as error:
            failed = error
        # A loop that was closed: nobody waits any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, result, failed)

    threading.Thread(target=run, name="ownlm-loading", daemon=True).start()
    return await done


def _collect() -> None:
    """What was let go of, to the system: a model is a circle of objects."""
    # What was made at the start is kept from the collector; see cli/serve.py.
    kept = gc.get_freeze_count()
    gc.unfreeze()
    gc.collect()
    if kept:
        gc.freeze()
    give_back_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def size(count: int) -> str:
    for unit, of in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= of:
            return f"{count / of:.1f} {unit}"
    return f"{count / 2**10:.0f} KiB"
