"""A server that speaks OpenAI's API: ours, llama.cpp's, vLLM's or another.

In:  its address (http://127.0.0.1:8000/v1) and, where it asks for one, a key.
Out: the names of its models that chat; the chunks of a streamed answer, as they come. What goes wrong on the way is
     an OwnlmError of one line (remote_errors).

Whoever stops reading the chunks, or cancels the task that waits for them, closes the connection: so a server learns
that nobody wants the answer any more.
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ownlm.cli.remote_errors import BROKEN_OFF, connection_told, failed_in_stream, no_api, one_line, refused
from ownlm.errors import OwnlmError

if TYPE_CHECKING:
    from httpx2 import AsyncClient, Response

# A long prompt may be read for minutes before the first byte; nobody waits for a dead machine for ever.
CONNECT_SECONDS, SILENT_SECONDS = 10.0, 600.0
KEY_VARIABLES = ("OWNLM_API_KEY", "OPENAI_API_KEY")
_LAST_SECONDS = 0.2
_LONGEST_ERROR, _LONGEST_EVENT = 64 * 1024, 2**20


@dataclass(frozen=True, kw_only=True)
class RemoteServer:
    url: str
    key: str | None = field(default=None, repr=False)

    @classmethod
    def at(cls, url: str, key: str | None, environ: Mapping[str, str] = os.environ) -> "RemoteServer":
        """The server that a user wrote, with the key that was given or stands in the environment."""
        key = key or next((environ[name] for name in KEY_VARIABLES if environ.get(name)), None)
        if key is not None and not (key.isascii() and key.isprintable() and key.strip()):
            raise OwnlmError("the key holds characters that no key has; check --key, or " + " and ".join(KEY_VARIABLES))
        return cls(url=_address(url), key=key and key.strip())

    @property
    def exposes_key(self) -> bool:
        """Does the key cross a network where others can read it?"""
        return self.key is not None and self.url.startswith("http:") and not self._on_this_machine

    @cached_property
    def _on_this_machine(self) -> bool:
        host = urlsplit(self.url).hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    def chat_models(self) -> list[str]:
        """The names of its models, without those that say they do not chat."""
        return asyncio.run(self._chat_models())

    async def _chat_models(self) -> list[str]:
        with connection_told(self.url):
            async with self._client() as client, client.stream("GET", f"{self.url}/models") as response:
                body = await _beginning(response)
        if response.status_code != 200:
            raise refused(self.url, "/models", response.status_code, response.headers, body, key=self.key)
        try:
            found = json.loads(body)["data"]
            return [str(one["id"]) for one in found if (one.get("capabilities") or {}).get("chat", True)]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise no_api(self.url, "/models", response.headers) from error

    async def chunks(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The objects of a streamed /chat/completions, until its end."""
        path, begun, ended = "/chat/completions", False, False
        # In ASCII: half a surrogate pair, which a server may have written, has no other form.
        sent: dict[str, Any] = {"content": json.dumps(body), "headers": {"content-type": "application/json"}}
        with connection_told(self.url, lambda: begun):
            async with self._client() as client, client.stream("POST", f"{self.url}{path}", **sent) as response:
                if response.status_code != 200:
                    said = await _beginning(response)
                    raise refused(self.url, path, response.status_code, response.headers, said, key=self.key)
                if "text/event-stream" not in response.headers.get("content-type", ""):
                    raise no_api(self.url, path, response.headers)
                events = _Events()
                async with aclosing(response.aiter_bytes()) as parts:
                    async for part in parts:
                        for data in events.push(part):
                            if data == "[DONE]":
                                await _to_the_end(parts)
                                return
                            chunk = _object(data)
                            if chunk is None:
                                raise no_api(self.url, path, response.headers)
                            if chunk.get("error"):
                                raise failed_in_stream(self.url, chunk)
                            begun = True
                            ended = ended or any(choice.get("finish_reason") for choice in choices(chunk))
                            yield chunk
                        if events.too_long:
                            raise no_api(self.url, path, response.headers)
        if not ended:
            raise OwnlmError(BROKEN_OFF.format(url=self.url))

    def _client(self) -> "AsyncClient":
        from httpx2 import AsyncClient, Timeout, create_ssl_context

        from ownlm import __version__

        # Compressed events come in lumps.
        headers = {"user-agent": f"ownlm/{__version__}", "accept-encoding": "identity"}
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key}"
        try:
            return AsyncClient(
                headers=headers,
                timeout=Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS),
                verify=create_ssl_context(),
                # No proxy stands between this machine and itself, whatever the environment says.
                trust_env=not self._on_this_machine,
            )
        except (ImportError, ValueError) as error:
            what = "a proxy that the environment names (HTTPS_PROXY, ALL_PROXY ...) cannot be used"
            raise OwnlmError(f"{what}: {one_line(error)}; unset it, or write an http:// one") from error


def choices(chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = chunk.get("choices")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


class _Events:
    """Bytes of a stream of events, cut anywhere, into the data of each; these servers write one on a line."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def too_long(self) -> bool:
        return len(self._rest) > _LONGEST_EVENT

    def push(self, part: bytes) -> list[str]:
        # Lines end here alone: JSON may hold U+2028 and others at which str.splitlines would cut.
        *lines, self._rest = (self._rest + part).split(b"\n")
        data = (line[5:].decode(errors="replace").strip() for line in lines if line.startswith(b"data:"))
        return [one for one in data if one]


async def _to_the_end(parts: AsyncIterator[bytes]) -> None:
    """What is read to its end has nothing left to close; some servers hold the connection after it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAST_SECONDS):
            async for _ in parts:
                pass


async def _beginning(response: "Response") -> bytes:
    """The body, of which nobody reads more than its beginning."""
    body = b""
    async with aclosing(response.aiter_bytes()) as parts:
        async for part in parts:
            body += part
            if len(body) > _LONGEST_ERROR:
                break
    return body


def _address(url: str) -> str:
    """http://host:port/v1 of what a user may write for it."""
    from httpx2 import URL, InvalidURL

    example = "write it such as http://127.0.0.1:8000"
    try:
        parts = urlsplit(url.strip())
        host, _, _ = parts.hostname, parts.port, URL(url.strip())
    except (ValueError, InvalidURL) as error:
        raise OwnlmError(f"{url!r} is no address; {example}") from error
    if parts.scheme not in ("http", "https") or not host:
        raise OwnlmError(f"{url!r} is no address that begins with http:// or https://; {example}")
    if parts.username is not None or parts.query or parts.fragment:
        raise OwnlmError(f"--url takes host, port and path alone; {example}, and give a key with --key")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"
