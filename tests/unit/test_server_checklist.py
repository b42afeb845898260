"""The holes that other servers had, one by one: numbers, schemas beside a stream, addresses, sizes, what is logged."""

import itertools
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ownlm.server import logs
from ownlm.server.app import make_app
from ownlm.server.fields import SamplingBody
from ownlm.server.keys import Keys
from ownlm.server.limits import Limits
from ownlm.server.store import Store
from serving import Server, serving, whole_service, wide_copy

SAY = [{"role": "user", "content": "Who are you?"}]
CHAT: dict[str, Any] = {"model": "chat", "messages": SAY, "max_tokens": 4}
# OpenAI's, Anthropic's and the Responses' places for an address that a server could be made to fetch.
ADDRESSES = [
    "http://169.254.169.254/latest/meta-data/",
    "http://user@127.0.0.1:22/",
    "http://[::ffff:10.0.0.1]:8080/",
    "file:///etc/passwd",
]
NUMBERS = [
    name
    for name, field in SamplingBody.model_fields.items()
    if any(kind in str(field.annotation) for kind in ("int", "float")) and name not in ("logit_bias", "stop_token_ids")
]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(Store(tmp_path_factory.mktemp("keys")))


@pytest.fixture(scope="module")
def key(keys: Keys) -> str:
    return keys.add("anna")


@pytest.fixture(scope="module")
def server(workshop: Path, tmp_path_factory: pytest.TempPathFactory, keys: Keys, key: str) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("checked")
    limits = Limits(request_tokens=3_000, body_bytes=8 * 2**20)
    service = whole_service(wide_copy(workshop / "chat", folder / "chat"), folder / "data", limits=limits, keys=keys)
    with serving(make_app(service)) as server:
        yield server


@pytest.fixture
def ask(server: Server, key: str) -> Any:
    return lambda path, body: server.post(path, body, headers={"authorization": f"Bearer {key}"})


@pytest.mark.parametrize("name", [*NUMBERS, "max_tokens", "top_logprobs"])
def test_no_number_is_a_fault_of_ours(ask: Any, name: str) -> None:
    for value in (-1, float("nan"), float("inf"), 1e308, -1e308, 2**31, 2**63, -(2**63), 2**200):
        answer = ask("/v1/chat/completions", {**CHAT, "logprobs": True, name: value})
        assert answer.status in (200, 400), (name, value, answer.body)
    for value in (True, "1", [1], {}):
        answer = ask("/v1/chat/completions", {**CHAT, "logprobs": True, name: value})
        assert answer.status == 400 and name in str(answer.json()["error"]["param"]), (name, value, answer.body)


def test_a_stream_flows_beside_schemas_that_cost_much(server: Server, ask: Any, key: str) -> None:
    bombs: list[dict[str, Any]] = [
        {"enum": [f"word{number}" for number in range(50_000)]},
        {"type": "string", "pattern": "(a+)+$"},
        {"type": "array", "minItems": 10**9},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"type": "nonsense"},
    ]
    came: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        # The next begins when one has ended: there is always one.
        while not ended.is_set():
            body = json.dumps({**CHAT, "max_tokens": 600, "ignore_eos": True, "stream": True}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
            head += f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
                client.sendall(head.encode() + body)
                while client.recv(65_536):
                    came.append(time.monotonic())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        for schema in bombs:
            form = {"type": "json_schema", "json_schema": {"name": "bomb", "schema": schema}}
            assert ask("/v1/chat/completions", {**CHAT, "response_format": form}).status in (200, 400)
    finally:
        ended.set()
        watching.join(60)
    assert max(after - before for before, after in itertools.pairwise(came)) < 2


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_address_is_fetched(ask: Any, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own, ours = socket.socket.connect, threading.get_ident()

    def connect(self: socket.socket, to: Any) -> None:
        assert threading.get_ident() == ours, "the server opened a connection"
        own(self, to)

    monkeypatch.setattr(socket.socket, "connect", connect)
    image = {"type": "image_url", "image_url": {"url": address}}
    block = {"type": "image", "source": {"type": "url", "url": address}}
    item = {"type": "input_image", "image_url": address}
    bodies = [
        ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": [image]}]}),
        ("/v1/messages", {**CHAT, "messages": [{"role": "user", "content": [block]}]}),
        ("/v1/responses", {"model": "chat", "input": [{"role": "user", "content": [item]}]}),
    ]
    for path, body in bodies:
        answer = ask(path, body)
        assert answer.status == 400 and address not in answer.body.decode()


def test_sizes_that_are_only_claimed(server: Server, ask: Any, key: str) -> None:
    assert server.get("/v1/models", headers={"authorization": f"Bearer {key}", "x-long": "y" * 65_536}).status >= 400
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        client.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {2**30}\r\n\r\n".encode())
        assert b" 413 " in client.recv(1000).split(b"\r\n")[0]
    began = time.monotonic()
    answer = ask("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": "x"}] * 100_000})
    assert answer.status == 400 and "100000 messages" in answer.json()["error"]["message"]
    assert time.monotonic() - began < 10


def test_nothing_of_a_clients_stands_in_the_log(server: Server, ask: Any, key: str, caplog: Any) -> None:
    with caplog.at_level(logging.DEBUG, logger=logs.__name__.rpartition(".")[0]):
        assert ask("/v1/completions", {"model": "a\nb", "prompt": "a secret"}).status == 404
        assert ask("/v1/completions", {"model": "chat", "prompt": "a secret", "max_tokens": 1}).status == 200
        assert server.get("/v1/models/a%0Ab%00", headers={"x-api-key": key}).status == 404
        assert server.get("/v1/models", headers={"x-api-key": "own-not-there"}).status == 401
    noted = [record.getMessage() for record in caplog.records] + [str(record.__dict__) for record in caplog.records]
    for secret in (key, "a secret", "own-not-there"):
        assert not any(secret in line for line in noted)
    assert not any("\n" in record.getMessage() for record in caplog.records)
