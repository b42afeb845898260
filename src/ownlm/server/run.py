"""The server's process: sockets, signals, and an end in good order.

    SIGTERM ─▶ /ready turns 503, new requests are refused ─▶ answers finish, up to drain_seconds ─▶ the listener closes
    a second signal ends at once

uvicorn closes its listener first and then waits; a balancer in front would send to a closed door. So the drain comes
before uvicorn's own handler.
"""

import asyncio
import ipaddress
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from ownlm.errors import OwnlmError
from ownlm.server.service import Service

log = logging.getLogger("ownlm.server")
_LOOKS = 0.05


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where to listen. `port` 0 takes a free one. `certificate` and `private_key` are PEM files, for https."""

    host: str = "127.0.0.1"
    port: int = 8000
    certificate: Path | None = None
    private_key: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65_536:
            raise OwnlmError(f"port must be between 0 and 65535, got {self.port}")
        if (self.certificate is None) != (self.private_key is None):
            raise OwnlmError("https needs both, a certificate and its private key")

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def serve(app: ASGIApp, service: Service, address: Address, *, started: Callable[[str], None]) -> None:
    """Answer until a signal says to end. `started` hears the server's URL once it listens."""
    if address.certificate is not None:
        _check_certificate(address)
    config = uvicorn.Config(
        app,
        host=address.host,
        port=address.port,
        http="h11",  # the one that bounds what it buffers of headers
        h11_max_incomplete_event_size=2 * service.limits.header_bytes,
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing here goes by what a proxy says of the client
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=5,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.private_key,
    )
    server = _Server(config, service, started)
    try:
        server.run()
    except SystemExit as ended:
        # uvicorn has logged why, such as an address that is taken.
        if ended.code and not server.started:
            raise OwnlmError(
                f"cannot listen at {address.host} port {address.port}; another program may: name another --port"
            ) from None
        raise


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, service: Service, told: Callable[[str], None]) -> None:
        super().__init__(config)
        self._service, self._told = service, told
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            self._loop = asyncio.get_running_loop()
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            scheme = "https" if self.config.is_ssl else "http"
            self._told(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Not by uvicorn's own, which raises the signal again in the end: a server that was told to end has done so.
        if self._service.draining or not self.started:
            self.should_exit = self.force_exit = True
            return
        self._service.draining = True
        self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        self._draining = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        limit = time.monotonic() + self._service.limits.drain_seconds
        while not self._service.idle and time.monotonic() < limit:
            await asyncio.sleep(_LOOKS)
        if not self._service.idle:
            log.warning("answers were not whole in time and are broken off")
        self.should_exit = True


def _check_certificate(address: Address) -> None:
    assert address.certificate is not None
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(address.certificate, address.private_key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or "not in PEM"
        raise OwnlmError(f"{address.certificate} and its key cannot be used for https: {reason}") from error
