"""The same application under Ray Serve: several replicas on this machine, or on a cluster's.

    client ──▶ Ray's proxy ──▶ a replica, of two the one with fewer requests: gate ──▶ app ──▶ engine

Ray starts the replicas, hands the requests out, asks each how it is (check_health: do its engines step?), begins one
that is not well anew, and lets answers end when the server is told to. On one machine all replicas share its --data
folder; on a cluster nothing is stored, for SQLite's file belongs to one machine.

Ray's router by prefixes (PrefixCacheAffinityRouter) is not used: it cannot be imported without vLLM or SGLang.
"""

import os
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from starlette.types import ASGIApp

from ownlm.errors import OwnlmError
from ownlm.server.keys import Keys
from ownlm.server.limits import Limits
from ownlm.server.run import Address
from ownlm.server.service import Service
from ownlm.server.store import Store

LOCAL = "local-ray"
APP = "ownlm"
_CLIENT_PORT = 10_001
_OWN_LINE = re.compile(r"(?:OwnlmError|DamagedError): (.+)")
# Requests that look after the server come beside those that are answered or wait.
_SPARE = 64


class Build(Protocol):
    def __call__(self, data: Path, *, keeps: bool = True, beside: bool = False) -> tuple[ASGIApp, Service]:
        """Called in each replica; what it closes over is sent there."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """`on`: "local-ray", or ray://HOST of a cluster's head. `cpus`, `gpus`: of each replica."""

    on: str = LOCAL
    replicas: int = 1
    cpus: float | None = None
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.on != LOCAL and not re.fullmatch(r"ray://[\w.\-\[\]:]+", self.on):
            raise OwnlmError(f"--on is {LOCAL}, or ray://HOST of a cluster's head, got {self.on[:80]!r}")
        if self.replicas < 1:
            raise OwnlmError(f"--replicas must be at least 1, got {self.replicas}")
        for name, value, least in (("cpus", self.cpus, 0.01), ("gpus", self.gpus, 0.0)):
            if value is not None and not least <= value < 10_000:
                raise OwnlmError(f"--replica-{name} must be {least:g} or more, got {value:g}")

    @property
    def is_local(self) -> bool:
        return self.on == LOCAL

    @property
    def address(self) -> str:
        has_port = re.search(r":\d+$", self.on)
        return self.on if has_port else f"{self.on}:{_CLIENT_PORT}"

    @property
    def threads(self) -> float:
        if self.cpus is not None:
            return self.cpus
        return max(1, (os.cpu_count() or 1) // self.replicas) if self.is_local else 1


def serve_on_ray(
    build: Build,
    cluster: Cluster,
    address: Address,
    limits: Limits,
    *,
    keys: Keys,
    data: Path,
    started: Callable[[str], None],
) -> None:
    """Answer until a signal says to end. `started` hears the server's URL once all replicas are well."""
    if not cluster.is_local and (limited := [key.name for key in keys.list() if key.tokens_a_day and key.holds]):
        raise OwnlmError(
            f"the key {limited[0]} has a quota, which replicas on several machines cannot count together; "
            "revoke it, or serve --on local-ray"
        )
    ray, serve = _ray(cluster)
    port = address.port or _free_port(address.host)
    ending = _Ending()
    _connect(ray, cluster)
    ending.listen()
    try:
        _deploy(serve, build, cluster, address, port, limits, keys=keys.rows(), data=data)
        scheme = "https" if address.certificate is not None else "http"
        started(f"{scheme}://{f'[{address.host}]' if ':' in address.host else address.host}:{port}")
        ending.wait()
    except _AtOnce:
        pass
    finally:
        with suppress(_AtOnce):
            _end(serve, cluster)
        ray.shutdown()


def _ray(cluster: Cluster) -> tuple[Any, Any]:
    # Ray tells its makers of each start unless it is told not to.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    if not cluster.is_local and (Path.home() / ".ray" / "auth_token").is_file():
        # A cluster asks for its token unless it was told not to; its client sends it only where this says so.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
        from ray import serve
    except ImportError:
        raise OwnlmError("--on needs Ray Serve; install it with: pip install 'ownlm[cluster]'") from None
    return ray, serve


def _connect(ray: Any, cluster: Cluster) -> None:
    quiet = {"log_to_driver": True, "logging_level": "warning"}
    if cluster.is_local:
        need = cluster.threads * cluster.replicas
        here = max(os.cpu_count() or 1, int(need + 0.99))
        # Bound to loopback: Ray's own ports ask for no key.
        ray.init(address="local", num_cpus=here, include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
        return
    try:
        ray.init(cluster.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        told = " ".join(str(error).split())[:200]
        raise OwnlmError(
            f"no cluster answers at {cluster.address}: {told}; `ray start --head` begins one, with the "
            "same versions of Python, Ray and ownlm as here; its token belongs in ~/.ray/auth_token"
        ) from None


def _deploy(
    serve: Any,
    build: Build,
    cluster: Cluster,
    address: Address,
    port: int,
    limits: Limits,
    *,
    keys: Sequence[tuple[Any, ...]],
    data: Path,
) -> None:
    options = {"host": address.host, "port": port, "request_timeout_s": None}
    if address.certificate is not None:
        options |= {"ssl_certfile": str(address.certificate), "ssl_keyfile": str(address.private_key)}
    quiet = {"log_level": "WARNING", "enable_access_log": False}
    serve.start(
        proxy_location="HeadOnly" if cluster.is_local else "EveryNode", http_options=options, logging_config=quiet
    )
    replica = serve.deployment(
        name="replica",
        num_replicas=cluster.replicas,
        ray_actor_options={"num_cpus": cluster.threads, "num_gpus": cluster.gpus},
        # How many wait is decided by each replica's own admission, which tells when to ask again.
        max_ongoing_requests=limits.waiting_requests + _SPARE,
        max_queued_requests=limits.waiting_requests,
        graceful_shutdown_timeout_s=limits.drain_seconds,
        graceful_shutdown_wait_loop_s=0.2,
        max_constructor_retry_count=1,
        logging_config=quiet,
    )(serve.ingress(_application)(Replica))
    folder = data.resolve() if cluster.is_local else None
    bound = replica.bind(build, folder, [] if cluster.is_local else list(keys), cluster.replicas > 1)
    try:
        serve.run(bound, name=APP, route_prefix="/")
    except RuntimeError as error:
        found = _OWN_LINE.findall(_why(serve) or str(error))
        told = found[-1].strip() if found else " ".join(str(error).split())[:300]
        raise OwnlmError(f"no replica could be started: {told}") from None


def _why(serve: Any) -> str:
    application = serve.status().applications.get(APP)
    return "" if application is None else "\n".join(one.message for one in application.deployments.values())


def _end(serve: Any, cluster: Cluster) -> None:
    # Others may serve on the same cluster.
    if cluster.is_local:
        serve.shutdown()
    else:
        serve.delete(APP)


# A replica is a process of its own: its application, made by Replica.__init__.
_made: list[ASGIApp] = []


def _application() -> ASGIApp:
    return _made[-1]


class Replica:
    def __init__(self, build: Build, data: Path | None, keys: Sequence[tuple[Any, ...]], beside: bool) -> None:
        from ray import serve

        keeps = data is not None
        if data is None:
            self._folder = tempfile.TemporaryDirectory(prefix="ownlm-replica-")
            data = Path(self._folder.name)
            Keys(Store(data)).put(keys)
        app, self.service = build(data, keeps=keeps, beside=beside)
        if beside:
            self.service.metrics.labels = {"replica": str(serve.get_replica_context().replica_tag)}
        _made.append(app)

    def check_health(self) -> None:
        """Ray begins a replica anew that raises here three times, thirty seconds in all."""
        if not self.service.ready:
            raise RuntimeError("an engine stands still, or has failed too often")


class _AtOnce(Exception):
    """A second signal."""


class _Ending:
    """SIGTERM and Ctrl-C: the first ends the wait, the second whatever is done then."""

    def __init__(self) -> None:
        self._told = threading.Event()

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._hear)

    def wait(self) -> None:
        # In pieces: on some systems a signal does not end a wait without an end.
        while not self._told.wait(0.5):
            pass

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._told.is_set():
            raise _AtOnce
        self._told.set()


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
