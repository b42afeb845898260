"""A served tiny model for tests: the real server on a real socket, in a thread of this process."""

import http.client
import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from ownlm.engine import EngineConfig
from ownlm.opened import load, load_embedder
from ownlm.server.batches.kept import Batches
from ownlm.server.files import Files
from ownlm.server.hosted import Hosted
from ownlm.server.hosted_embedder import HostedEmbedder
from ownlm.server.limits import Limits
from ownlm.server.responses.going import Responses
from ownlm.server.responses.kept import Kept
from ownlm.server.service import Service
from ownlm.server.store import Store

_BERT = Path(__file__).parent / "parity" / "references" / "bert"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """The data of a stream's events, without [DONE]."""
        lines = self.body.decode().splitlines()
        found = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        return [json.loads(one) for one in found if one != "[DONE]"]


@dataclass(frozen=True)
class Server:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, timeout: float = 60
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, raw, {"content-type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, found, answer.read())
        finally:
            connection.close()

    def post(self, path: str, body: Any, **more: Any) -> Answer:
        return self.ask("POST", path, body, **more)

    def get(self, path: str, **more: Any) -> Answer:
        return self.ask("GET", path, **more)


def wide_copy(model: Path, folder: Path, *, context: int = 1024) -> Path:
    """A tiny model with room for long prompts."""
    shutil.copytree(model, folder)
    (folder / "card.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": context}))
    return folder


def whole_service(model: Path, data: Path, *, limits: Limits | None = None, **more: Any) -> Service:
    """Every route at work: `model` as "chat", an embedder, a ranker, and a store in `data`."""
    limits, store = limits or Limits(), Store(data)
    opened = load(model, engine=EngineConfig(max_sequences=4, cache_tokens=8_000))
    bert = {"embedder": "embedder", "ranker": "cross_encoder"}
    return Service(
        hosted={"chat": Hosted("chat", opened, limits=limits)},
        embedders={name: HostedEmbedder(name, load_embedder(_BERT / kind)) for name, kind in bert.items()},
        limits=limits,
        responses=Responses(Kept(store)),
        files=Files(store, limits),
        batches=Batches(store),
        **more,
    )


@contextmanager
def serving(app: ASGIApp, **options: Any) -> Iterator[Server]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none", **options))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline and thread.is_alive()
        time.sleep(0.01)
    try:
        yield Server(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
