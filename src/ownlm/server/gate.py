"""The outermost layer, pure ASGI: nothing reaches a route that has not passed here, whatever the route is.

    connection ─▶ request id ─▶ headers' size ─▶ Host, Origin ─▶ key ─▶ its scope ─▶ draining? ─▶ body's size ─▶ app

Closed by default: only /live, /ready and /health are open. A key comes as "Authorization: Bearer", "x-api-key" or
"api-key"; there is one place that reads them. While the store holds no key the server is this machine's own: it is
bound to loopback, and Host and Origin must be too, so that no page in a browser can reach it by a name of its own.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ownlm.server import logs
from ownlm.server.errors import ApiError
from ownlm.server.keys import Keys
from ownlm.server.limits import Limits
from ownlm.server.principal import ANYBODY, Principal

OPEN_PATHS = frozenset({"/live", "/ready", "/health"})
# Files have a limit of their own; a form has room for the fields around them.
FILES = "/v1/files"
_FORM_BYTES = 64 * 2**10
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


class Gate:
    """`keys` None: nobody needs one. `hosts`: names under which the server may be asked; None: any."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        keys: Keys | None = None,
        hosts: frozenset[str] | None = LOOPBACK,
        origins: frozenset[str] = frozenset(),
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._app, self._limits, self._keys = app, limits, keys
        self._hosts, self._origins, self._draining = hosts, origins, draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"a connection of type {scope['type']} is not served")
        scope["ownlm.request_id"] = request_id = f"req_{secrets.token_hex(12)}"
        logs.request_id.set(request_id)
        sent = _Sent(send, request_id)
        began = time.monotonic()
        try:
            headers = _headers(scope, self._limits.header_bytes)
            scope["ownlm.principal"] = self._principal(scope["path"], headers)
            await self._app(scope, _Bounded(receive, headers, scope["path"], self._limits), sent)
        except Exception as error:
            if sent.begun:
                return  # a fault of ours, which app.py has told and logged
            if not isinstance(error, ApiError):
                raise
            await _answer(sent, error, scope["path"], request_id)
        finally:
            principal = scope.get("ownlm.principal")
            logs.note(
                {
                    "method": scope["method"],
                    "path": scope["path"][:200].replace("\n", " "),
                    "status": sent.status,
                    "milliseconds": round(1000 * (time.monotonic() - began)),
                    "key": "-" if principal is None else principal.name,
                    "request_id": request_id,
                }
            )

    def _principal(self, path: str, headers: Mapping[str, str]) -> Principal:
        self._check_names(headers)
        if path in OPEN_PATHS:
            return ANYBODY
        if self._keys is None or not self._keys.any:
            principal = ANYBODY
        else:
            key = _key(headers)
            if not key:
                message = "a key is needed: Authorization: Bearer KEY"
                raise ApiError(status=401, message=message, code="invalid_api_key")
            found = self._keys.find(key)
            if found is None:
                raise ApiError(status=401, message="there is no such key, or it has expired", code="invalid_api_key")
            principal = found
        if not principal.may_call(path):
            raise ApiError(status=403, message=f"the key {principal.name!r} may not use this route")
        if self._draining():
            raise ApiError(status=503, message="the server is ending; ask again in a moment", retry_after=5)
        return principal

    def _check_names(self, headers: Mapping[str, str]) -> None:
        if self._hosts is not None:
            host = _host(headers.get("host", ""))
            if host not in self._hosts:
                raise ApiError(status=403, message="the server does not go by this Host; see --host-name")
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and not self._is_own(origin, headers):
            raise ApiError(status=403, message="pages of this Origin may not ask here; see --allow-origin")

    def _is_own(self, origin: str, headers: Mapping[str, str]) -> bool:
        """The server's own page."""
        return urlsplit(origin).netloc == headers.get("host")


class _Bounded:
    """A body that is too long, or too slow, ends in an error where it is read."""

    def __init__(self, receive: Receive, headers: Mapping[str, str], path: str, limits: Limits) -> None:
        self._receive, self._limits = receive, limits
        self._most = limits.file_bytes + _FORM_BYTES if path == FILES else limits.body_bytes
        self._size = 0
        self._whole = False
        said = headers.get("content-length", "0")
        if said.isdecimal() and int(said[:20]) > self._most:
            raise self._too_long()

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(status=408, message="the body did not arrive in time") from None
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._size > self._most:
                raise self._too_long()
        return message

    def _too_long(self) -> ApiError:
        return ApiError(status=413, message=f"the body is longer than {self._most} bytes")


class _Sent:
    """Puts the request's id into what is sent, by OpenAI's and by Anthropic's name."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self.begun, self.status = send, False, 0
        self._ids = [(b"x-request-id", request_id.encode()), (b"request-id", request_id.encode())]

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
            message = {**message, "headers": [*message.get("headers", []), *self._ids]}
        await self._send(message)


def _headers(scope: Scope, most_bytes: int) -> dict[str, str]:
    raw = scope["headers"]
    if sum(len(name) + len(value) for name, value in raw) > most_bytes:
        raise ApiError(status=431, message=f"the headers are longer than {most_bytes} bytes")
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}


def _key(headers: Mapping[str, str]) -> str:
    given = headers.get("authorization", "")
    scheme, _, key = given.partition(" ")
    if scheme.lower() == "bearer":
        return key.strip()
    return headers.get("x-api-key") or headers.get("api-key") or ""


def _host(header: str) -> str:
    name, colon, port = header.rpartition(":")
    return (name if colon and port.isdecimal() else header).lower()


async def _answer(send: Send, error: ApiError, path: str, request_id: str) -> None:
    status, written = error.written_for(path, request_id)
    body = json.dumps(written).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.sent_headers}
    if error.status in (408, 413):
        headers["connection"] = "close"  # the rest of the body is not read
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
