"""An embedding model that is served: it reads on a thread of its own, a few texts at a time, and writes nothing.

request ──admission──▶ piece ──▶ thread ──▶ vectors      the pieces of several requests take turns
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from ownlm.opened import Embedder, EmbedderOutline
from ownlm.server.admission import Admission
from ownlm.server.errors import ApiError
from ownlm.server.limits import Limits
from ownlm.server.shelf import OnShelf

T = TypeVar("T")
# Requests whose pieces take turns; the others wait.
PLACES = 8


class HostedEmbedder(OnShelf):
    """`name`: what clients call it. `given`: as for Hosted. `embedder` is good for everything but the numbers."""

    def __init__(self, name: str, given: Embedder | EmbedderOutline, *, limits: Limits | None = None) -> None:
        self.name = name
        self._outline = given if isinstance(given, EmbedderOutline) else None
        self._loaded: Embedder | None = None
        if isinstance(given, EmbedderOutline):
            self.can_load, self.bytes, self.embedder = True, given.weight_bytes, given.embedder
        else:
            self._loaded = self.embedder = given
        self.created = int(time.time())
        self.admission = Admission(PLACES, limits or Limits())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ownlm-embedder")
        self._ended = False

    @property
    def routes(self) -> str:
        return "/v1/embeddings and /v1/rerank" if self.embedder.embeds else "/v1/rerank"

    @property
    def context(self) -> int:
        """Tokens that are read at once."""
        return self.embedder.context

    @property
    def loaded(self) -> bool:
        return self._loaded is not None

    def load(self) -> Callable[[], None]:
        assert self._outline is not None
        return partial(self._put, self._outline.load())

    def unload(self) -> Callable[[], None]:
        self._loaded = None
        # A piece whose asker has gone may be at work still.
        return self._thread.submit(_nothing).result

    def _put(self, embedder: Embedder) -> None:
        self._loaded = embedder

    async def run(self, work: Callable[[Embedder], T]) -> T:
        """A piece of work on the model's own thread; it is not begun when nobody waits for it any more."""
        if self._ended:
            raise ApiError(status=503, message="the server is ending", retry_after=1)
        assert self._loaded is not None, "only a model that is in use is surely loaded"
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._loaded)

    def close(self) -> None:
        self._ended = True
        self._thread.shutdown(cancel_futures=True)


def _nothing() -> None:
    pass
