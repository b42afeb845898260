"""Server-sent events, written by hand: a few bytes for each, and an end as soon as the client is gone.

Neither `id:` nor `retry:` lines are sent: openai's client takes a lone one for an event without data and fails on it.
A comment every PING seconds keeps proxies from closing a connection on which nothing is said while a prompt is read.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PING = 15.0
DONE = b"data: [DONE]\n\n"
_COMMENT = b": still here\n\n"
# json.dumps would make one anew for each event.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def event(data: Any, name: str | None = None) -> bytes:
    """One event; `name` is what Anthropic and /v1/responses call it."""
    front = b"" if name is None else b"event: " + name.encode() + b"\n"
    return front + b"data: " + _encode(data).encode() + b"\n\n"


class EventStream(Response):
    """A response of what `events` yields. Closes `events` as soon as the client has gone.

    `first` has been drawn from `events` already: what cannot be answered at all is told with a status of its own.
    """

    def __init__(self, first: bytes, events: AsyncGenerator[bytes], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(
            headers={
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-store",
                "x-accel-buffering": "no",
                **(headers or {}),
            }
        )
        del self.headers["content-length"]
        self._first, self._events, self._said = first, events, time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writing = asyncio.create_task(self._write(send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({writing, gone}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
        finally:
            for task in (writing, gone):
                task.cancel()
            for task in (writing, gone):
                with suppress(asyncio.CancelledError, OSError):
                    await task

    async def _write(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            pinging = asyncio.create_task(self._ping(send))
            try:
                async for body in events:
                    self._said = time.monotonic()
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            finally:
                pinging.cancel()
                await asyncio.gather(pinging, return_exceptions=True)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _ping(self, send: Send) -> None:
        # Beside the writer, whose every event would else need a timer.
        while True:
            left = self._said + PING - time.monotonic()
            if left <= 0:
                self._said, left = time.monotonic(), PING
                await send({"type": "http.response.body", "body": _COMMENT, "more_body": True})
            await asyncio.sleep(left)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
