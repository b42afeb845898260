"""A model that is served: its engine on a thread of its own, begun anew when it fails.

submit ──▶ EngineThread ──fails──▶ every answer ends with an error, `ready` turns off
               ▲                                     │
               └──── a new engine, empty cache ◀── revive, twice a second
"""

import logging
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from ownlm.engine import Engine, Request
from ownlm.engine.background import AsyncAnswer, EngineStopped, EngineThread, Stats
from ownlm.model.lora import LoraAdapter
from ownlm.opened import Model
from ownlm.server.admission import Admission
from ownlm.server.last_prompts import LastPrompts
from ownlm.server.limits import Limits

log = logging.getLogger("ownlm.server")

# A step longer than this is a hang, and the server not ready.
HANGS = 60.0
# So many failures in so many seconds are no accident any more.
MOST_FAILURES, WITHIN = 5, 60.0


class Hosted:
    """`name`: what clients call it. `adapters` are called NAME:ADAPTER, or by their own names where those are free."""

    def __init__(
        self, name: str, model: Model, *, limits: Limits | None = None, adapters: Mapping[str, Path] | None = None
    ) -> None:
        self.name, self.model = name, model
        self.created = int(time.time())
        self.adapters = {called: _adapter(model, folder) for called, folder in (adapters or {}).items()}
        self.last_prompts = LastPrompts()
        self.restarts = 0
        self.fatal = False
        self._failures: deque[float] = deque()
        self._ended = False
        self._before = _NOTHING
        config = model.engine.config
        most = config.max_sequences
        # Batches leave some room, so that who comes can be begun without putting anything back.
        background = max(1, most - most // 8)
        self.admission = Admission(most + max(1, most // 4), limits or Limits(), background=background)
        self._thread = EngineThread(model.engine).start()

    @property
    def engine(self) -> Engine:
        return self._thread.engine

    @property
    def context(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self.engine.context

    @property
    def ready(self) -> bool:
        return self._thread.alive and self._thread.stats().step_seconds < HANGS

    @property
    def idle(self) -> bool:
        return not self.admission.taken and not self.admission.waiting

    def submit(self, request: Request) -> AsyncAnswer:
        """As EngineThread.submit; call it in a thread where a grammar may have to be compiled."""
        return self._thread.submit(request)

    def stats(self) -> Stats:
        """Since the start, whatever failed in between."""
        now, before = self._thread.stats(), self._before
        counted = {name: getattr(now, name) + getattr(before, name) for name in _COUNTED}
        return Stats(**{**vars(now), **counted})

    def revive(self) -> None:
        """A new engine where the old one has failed; its cache may be anything, and starts empty."""
        if self._ended or self.fatal or self._thread.alive:
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
            self._thread.submit(Request(prompt=[0]))
        except EngineStopped as stopped:
            log.error("%s; it is begun anew", stopped, exc_info=stopped.__cause__)
        self._before = self.stats()
        old = self._thread.engine
        engine = Engine(self.model.decoder, self.model.tokenizer, self.model.end_ids, old.config)
        engine.speculator = old.speculator
        self.restarts += 1
        self._thread = EngineThread(engine).start()

    def close(self) -> None:
        self._ended = True
        self._thread.stop()


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
