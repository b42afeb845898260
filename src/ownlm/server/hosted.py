"""A model that is served: its engine on a thread of its own, begun anew when it fails.

submit ──▶ EngineThread ──fails──▶ every answer ends with an error, `ready` turns off
               ▲                                     │
               └──── a new engine, empty cache ◀── revive, twice a second
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ownlm.engine import Engine, Request
from ownlm.engine.background import AsyncAnswer, EngineStopped, EngineThread, Stats
from ownlm.model.lora import LoraAdapter
from ownlm.opened import Model, Outline
from ownlm.opened.outline import adapter_bytes
from ownlm.server.admission import Admission
from ownlm.server.last_prompts import LastPrompts
from ownlm.server.limits import Limits
from ownlm.server.shelf import OnShelf

log = logging.getLogger("ownlm.server")

# A step longer than this is a hang, and the server not ready.
HANGS = 60.0
# So many failures in so many seconds are no accident any more.
MOST_FAILURES, WITHIN = 5, 60.0


class Hosted(OnShelf):
    """`name`: what clients call it. `adapters` are called NAME:ADAPTER.

    `given`: a model that is loaded and stays so; or its outline, and a Shelf loads and unloads it. Either way files,
    config and context are there, and prompts can be made.
    """

    def __init__(
        self,
        name: str,
        given: Model | Outline,
        *,
        limits: Limits | None = None,
        adapters: Mapping[str, Path] | None = None,
    ) -> None:
        self.name, self.files = name, given.files
        self.created = int(time.time())
        self.adapters = dict(adapters or {})
        self.last_prompts = LastPrompts()
        self.restarts = 0
        self.fatal = False
        self._failures: deque[float] = deque()
        self._ended = False
        self._before = _NOTHING
        self._outline = given if isinstance(given, Outline) else None
        self._model: Model | None = None
        self._thread: EngineThread | None = None
        self._adapters: dict[str, LoraAdapter] = {}
        if isinstance(given, Outline):
            self.can_load = True
            self.config, self.engine_config, self._context = given.config, given.engine, given.context
            self.device = given.device
            self.bytes = given.weight_bytes + given.cache_bytes
            self.bytes += sum(adapter_bytes(folder) for folder in self.adapters.values())
        else:
            engine, self.device = given.engine, given.decoder.device.type
            self.config, self.engine_config, self._context = given.decoder.config, engine.config, engine.context
            self._put(given, {called: _adapter(given, folder) for called, folder in self.adapters.items()})
        most = self.engine_config.max_sequences
        # Batches leave some room, so that who comes can be begun without putting anything back.
        background = max(1, most - most // 8)
        self.admission = Admission(most + max(1, most // 4), limits or Limits(), background=background)

    @property
    def loaded(self) -> bool:
        return self._thread is not None

    @property
    def model(self) -> Model:
        assert self._model is not None, "only a model that is in use is surely loaded"
        return self._model

    @property
    def engine(self) -> Engine:
        assert self._thread is not None, "only a model that is in use is surely loaded"
        return self._thread.engine

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._context if self._thread is None else self._thread.engine.context

    @property
    def ready(self) -> bool:
        """One that is not loaded is no hindrance: it will be."""
        thread = self._thread
        return thread is None or (thread.alive and thread.stats().step_seconds < HANGS)

    def load(self) -> Callable[[], None]:
        assert self._outline is not None
        model = self._outline.load()
        adapters = {called: _adapter(model, folder) for called, folder in self.adapters.items()}
        # Its cache is made here, not in the event loop.
        assert model.engine is not None
        return partial(self._put, model, adapters)

    def unload(self) -> Callable[[], None]:
        assert self._thread is not None
        self._before = self.stats()
        thread, self._thread, self._model, self._adapters = self._thread, None, None, {}
        self.last_prompts = LastPrompts()
        return thread.stop

    def _put(self, model: Model, adapters: dict[str, LoraAdapter]) -> None:
        self._model, self._adapters = model, adapters
        self._thread = EngineThread(model.engine).start()

    def submit(self, request: Request, adapter: str | None = None) -> AsyncAnswer:
        """As EngineThread.submit; call it in a thread where a grammar may have to be compiled."""
        assert self._thread is not None
        if adapter is not None:
            request = replace(request, adapter=self._adapters[adapter])
        return self._thread.submit(request)

    def stats(self) -> Stats:
        """Since the start, whatever failed and was unloaded in between."""
        thread, before = self._thread, self._before
        now = _NOTHING if thread is None else thread.stats()
        counted = {name: getattr(now, name) + getattr(before, name) for name in _COUNTED}
        return Stats(**{**vars(now), **counted})

    def revive(self) -> None:
        """A new engine where the old one has failed; its cache may be anything, and starts empty."""
        thread = self._thread
        if self._ended or self.fatal or thread is None or thread.alive:
            return
        now = time.monotonic()
        self._failures.append(now)
        while self._failures[0] < now - WITHIN:
            self._failures.popleft()
        if len(self._failures) > MOST_FAILURES:
            self.fatal = True
            log.error("the engine of %s failed %d times in a minute; it is not begun again", self.name, MOST_FAILURES)
            return
        try:
            thread.submit(Request(prompt=[0]))
        except EngineStopped as stopped:
            log.error("%s; it is begun anew", stopped, exc_info=stopped.__cause__)
        self._before = self.stats()
        old = thread.engine
        engine = Engine(self.model.decoder, self.model.tokenizer, self.model.end_ids, old.config)
        engine.speculator = old.speculator
        self.restarts += 1
        self._thread = EngineThread(engine).start()

    def close(self) -> None:
        self._ended = True
        if self._thread is not None:
            self._thread.stop()


@dataclass(frozen=True, kw_only=True)
class Served:
    """A name that clients may ask for: a model, or a model with one of its adapters."""

    name: str
    hosted: Hosted
    adapter: str | None = None


_COUNTED = (
    "preemptions",
    "requests",
    "prompt_tokens",
    "cached_tokens",
    "drawn_tokens",
    "drafted_tokens",
    "accepted_tokens",
)
_NOTHING = Stats(running=0, waiting=0, blocks=0, blocks_used=0, step_seconds=0.0, **dict.fromkeys(_COUNTED, 0))


def _adapter(model: Model, folder: Path) -> LoraAdapter:
    adapter = LoraAdapter.load(folder, model.decoder)
    adapter.check(model.decoder)
    return adapter
