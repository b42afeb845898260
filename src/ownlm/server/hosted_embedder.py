"""An embedding model that is served: it reads on a thread of its own, a few texts at a time, and writes nothing.

request ──admission──▶ piece ──▶ thread ──▶ vectors      the pieces of several requests take turns
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ownlm.opened import Embedder
from ownlm.server.admission import Admission
from ownlm.server.errors import ApiError
from ownlm.server.limits import Limits

T = TypeVar("T")
# Requests whose pieces take turns; the others wait.
PLACES = 8


class HostedEmbedder:
    """`name`: what clients call it."""

    def __init__(self, name: str, embedder: Embedder, *, limits: Limits | None = None) -> None:
        self.name, self.embedder = name, embedder
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
    def idle(self) -> bool:
        return not self.admission.taken and not self.admission.waiting

    async def run(self, work: Callable[[], T]) -> T:
        """A piece of work on the model's own thread; it is not begun when nobody waits for it any more."""
        if self._ended:
            raise ApiError(status=503, message="the server is ending", retry_after=1)
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._ended = True
        self._thread.shutdown(cancel_futures=True)
