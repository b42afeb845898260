"""Too much, gone, broken, told to end: accepted answers are whole, and nothing of the others is left."""

import asyncio
import gc
import http.client
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Message

from ownlm.engine import EngineConfig
from ownlm.opened import load
from ownlm.server.app import make_app
from ownlm.server.hosted import Hosted
from ownlm.server.limits import Limits
from ownlm.server.service import Service
from ownlm.server.sse import EventStream
from serving import Server, serving, wide_copy

# OWNLM_VANISHING_CLIENTS=1000 for the long run.
VANISHING = int(os.environ.get("OWNLM_VANISHING_CLIENTS", "200"))
ASKED = {"model": "base", "prompt": "The cat", "max_tokens": 8, "temperature": 0, "ignore_eos": True}
LONG = {**ASKED, "max_tokens": 900}


@pytest.fixture(scope="module")
def hosted(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Hosted:
    folder = wide_copy(workshop / "base", tmp_path_factory.mktemp("load") / "base")
    model = load(folder, engine=EngineConfig(max_sequences=2, cache_tokens=8_000))
    return Hosted("base", model, limits=Limits(waiting_requests=4))


@pytest.fixture(scope="module")
def server(hosted: Hosted) -> Iterator[Server]:
    with serving(make_app(Service(hosted={"base": hosted}, limits=Limits(waiting_requests=4)))) as server:
        yield server


def soon(holds: Callable[[], bool], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)
    return holds()


def begin(server: Server, **more: Any) -> socket.socket:
    """A request on its way, the answer not read."""
    body = json.dumps({**LONG, **more}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    client = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return client


def test_more_than_fits_is_refused_and_the_rest_is_right(server: Server) -> None:
    expected = server.post("/v1/completions", ASKED).json()["choices"][0]["text"]
    with ThreadPoolExecutor(40) as clients:
        answers = list(clients.map(lambda _: server.post("/v1/completions", {**ASKED, "max_tokens": 60}), range(40)))
    whole = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 429]
    assert len(whole) + len(refused) == 40 and len(whole) >= 5 and len(refused) >= 5
    assert all(answer.json()["choices"][0]["text"].startswith(expected) for answer in whole)
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert server.post("/v1/completions", ASKED).json()["choices"][0]["text"] == expected


def test_many_streams_join_their_tokens_and_say_the_same(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {**ASKED, "max_tokens": 60, "stream": True, "logprobs": 0, "return_token_ids": True}
    alone = server.post("/v1/completions", asked).events()
    assert max(len(event["choices"][0]["token_ids"]) for event in alone[1:]) < 30
    monkeypatch.setattr("ownlm.server.answering.MANY", 2)
    monkeypatch.setattr("ownlm.server.answering.JOIN_SECONDS", 5.0)
    with ThreadPoolExecutor(2) as clients:
        joined = [one.events() for one in clients.map(lambda _: server.post("/v1/completions", asked), range(2))]
    for events in joined:
        for part in ("text", "token_ids"):
            whole = [[piece for event in each for piece in event["choices"][0][part]] for each in (alone, events)]
            assert whole[0] == whole[1]
    assert min(len(events) for events in joined) < 10


def test_silence_is_broken_by_a_comment_between_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ownlm.server.sse.PING", 0.05)
    sent: list[bytes] = []

    async def events() -> AsyncGenerator[bytes]:
        await asyncio.sleep(0.2)
        yield b"data: 2\n\n"

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def served() -> None:
        await EventStream(b"data: 1\n\n", events())({"type": "http"}, receive, send)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(served())
    assert sent[:3] == [b"", b"data: 1\n\n", b": still here\n\n"] and sent[-2:] == [b"data: 2\n\n", b""]


def test_a_request_takes_no_thread(server: Server) -> None:
    before = {thread.ident for thread in threading.enumerate()}
    assert server.post("/v1/completions", ASKED).status == 200
    assert not [one.name for one in threading.enumerate() if "AnyIO" in one.name and one.ident not in before]


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_leaves_no_work_behind(server: Server, hosted: Hosted, stream: bool) -> None:
    clients = [begin(server, stream=stream, seed=number) for number in range(5)]
    assert soon(lambda: hosted.stats().running > 0)
    for client in clients:
        client.close()
    assert soon(lambda: hosted.idle and hosted.stats().running == hosted.stats().waiting == 0, 1)
    assert hosted.stats().blocks_used == 0 or server.post("/v1/completions", ASKED).status == 200


def test_many_who_vanish_leave_nothing_behind(workshop: Path, tmp_path: Path) -> None:
    model = load(wide_copy(workshop / "base", tmp_path / "base"), engine=EngineConfig(max_sequences=8))
    hosted = Hosted("base", model)
    with serving(make_app(Service(hosted={"base": hosted}))) as server:
        expected = server.post("/v1/completions", ASKED).json()["choices"]
        for first in range(0, VANISHING, 100):
            clients = [begin(server, stream=number % 2 == 0, seed=number) for number in range(first, first + 100)]
            assert soon(lambda: hosted.stats().running == 8)
            for number, client in enumerate(clients):
                if number % 3 == 0:
                    # Not closed but torn: the server reads a reset.
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            assert soon(lambda: hosted.idle and hosted.stats().running == hosted.stats().waiting == 0, 1)
        assert server.post("/v1/completions", ASKED).json()["choices"] == expected
        told = server.get("/metrics").body
    assert b'ownlm_num_requests_running{model_name="base"} 0.0' in told and b'_waiting{model_name="base"} 0.0' in told


def test_a_failed_engine_is_begun_anew(server: Server, hosted: Hosted, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = server.post("/v1/completions", ASKED).json()["choices"][0]["text"]
    broken = hosted.engine

    def fail() -> None:
        raise RuntimeError("/home/secret is broken")

    with begin(server, stream=True) as client:
        said = client.recv(10_000)
        monkeypatch.setattr(broken, "step", fail)
        while not said.endswith(b"0\r\n\r\n"):
            said += client.recv(100_000)
    assert b'"error"' in said and b"secret" not in said and b"[DONE]" not in said
    assert soon(lambda: hosted.engine is not broken and server.get("/ready").status == 200)
    assert server.post("/v1/completions", ASKED).json()["choices"][0]["text"] == expected
    assert b'ownlm_engine_restarts_total{model_name="base"} 1.0' in server.get("/metrics").body
    assert server.get("/live").status == 200


def test_an_answer_that_takes_too_long_is_given_up(workshop: Path, hosted: Hosted) -> None:
    service = Service(hosted={"base": hosted}, limits=Limits(request_seconds=0.3))
    app = make_app(service)
    with serving(app, lifespan="off") as server:
        answer = server.post("/v1/completions", LONG)
        assert answer.status == 504 and answer.headers["x-should-retry"] == "false"
        events = server.post("/v1/completions", {**LONG, "stream": True}).events()
        assert events[-1]["error"]["code"] == "deadline_exceeded"
    assert soon(lambda: hosted.idle)


@pytest.mark.skipif(sys.platform == "win32", reason="announced: Windows has no SIGTERM")
def test_told_to_end_it_lets_answers_finish(workshop: Path, tmp_path: Path) -> None:
    model = wide_copy(workshop / "base", tmp_path / "base")
    command = [sys.executable, "-m", "ownlm.cli", "serve", f"base={model}", "--port", "0", "--data", tmp_path / "data"]
    command.append("--vllm-metrics")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        port = int(process.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0])
        server = Server(port)
        answers: list[Any] = []
        asking = threading.Thread(
            target=lambda: answers.append(server.post("/v1/completions", {**LONG, "max_tokens": 300, "stream": True}))
        )
        asking.start()
        assert soon(lambda: b'vllm:num_requests_running{model_name="base"} 1.0' in server.get("/metrics").body, 20)
        process.send_signal(signal.SIGTERM)
        assert soon(lambda: server.get("/ready").status == 503)
        refused = server.post("/v1/completions", ASKED)
        assert refused.status == 503 and refused.headers["retry-after"]
        asking.join(60)
        assert len(answers[0].events()) > 100 and answers[0].body.endswith(b"data: [DONE]\n\n")
        assert process.wait(20) == 0, process.stderr.read()
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            server.get("/live")


def test_what_was_opened_is_not_collected_again(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ownlm.cli.main import run

    seen: list[tuple[bool, int]] = []

    def served(_: ASGIApp, service: Service, *__: object, **___: object) -> None:
        seen.append((gc.isenabled(), gc.get_freeze_count()))
        for one in service.everything:
            one.close()

    monkeypatch.setattr("ownlm.server.run.serve", served)
    before = gc.get_freeze_count()
    assert run(["serve", str(workshop / "base"), "--data", str(tmp_path / "data")]) == 0
    gc.unfreeze()
    assert run(["serve", "nowhere", "--data", str(tmp_path / "data")]) == 2
    assert seen[0][0] and seen[0][1] > before + 10_000 and gc.isenabled()


def test_another_address_needs_a_key(workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ownlm.cli.main import run

    assert run(["serve", str(workshop / "base"), "--host", "0.0.0.0", "--data", str(tmp_path / "data")]) == 2
    assert "serve keys add" in capsys.readouterr().err
    assert run(["serve", "--data", str(tmp_path / "data")]) == 2
    assert "name at least one MODEL" in capsys.readouterr().err
    assert run(["serve", "keys", "add", "anna", "--days", "3", "--data", str(tmp_path / "data")]) == 0
    key = capsys.readouterr().out.strip()
    assert run(["serve", "keys", "list", "--data", str(tmp_path / "data")]) == 0
    listed = capsys.readouterr().out
    assert "anna" in listed and key not in listed
    assert run(["serve", "keys", "revoke", "anna", "--data", str(tmp_path / "data")]) == 0
    assert key.encode() not in (tmp_path / "data" / "server.db").read_bytes()
