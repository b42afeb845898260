"""Files and batches: checked whole, answered behind everybody, kept through a kill, each key's own."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ownlm.opened import load
from ownlm.server.admission import Admission
from ownlm.server.app import make_app
from ownlm.server.batches.data import BatchData
from ownlm.server.batches.kept import Batches
from ownlm.server.files import Files
from ownlm.server.hosted import Hosted
from ownlm.server.keys import Keys
from ownlm.server.limits import Limits
from ownlm.server.service import Service
from ownlm.server.store import Store
from serving import Answer, Server, serving, wide_copy

ENDED = ("completed", "failed", "cancelled", "expired")
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def line(custom_id: str, url: str = TEXT, **body: Any) -> dict[str, Any]:
    asked = {"model": "base", "prompt": "The cat", "max_tokens": 4, "temperature": 0}
    if url == CHAT:
        asked = {"model": "chat", "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 4}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": asked | body}


def as_file(lines: list[Any]) -> bytes:
    return b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in lines)


class Client:
    def __init__(self, server: Server, key: str | None = None) -> None:
        self.server, self.headers = server, {} if key is None else {"authorization": f"Bearer {key}"}

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        return self.server.ask(method, path, body, headers=self.headers)

    def upload(self, content: bytes, *, name: str = "in.jsonl", **fields: str) -> Answer:
        parts = [
            f'--edge\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
            for key, value in ({"purpose": "batch"} | fields).items()
        ]
        head = f'--edge\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        body = b"".join([*parts, head, content, b"\r\n--edge--\r\n"])
        headers = {"content-type": "multipart/form-data; boundary=edge", **self.headers}
        return self.server.ask("POST", "/v1/files", body, headers=headers)

    def begin(self, lines: list[Any], endpoint: str = TEXT, **more: Any) -> Any:
        file = self.upload(as_file(lines)).json()["id"]
        body = {"input_file_id": file, "endpoint": endpoint, "completion_window": "24h", **more}
        answer = self.ask("POST", "/v1/batches", body)
        assert answer.status == 200, answer.body
        return answer.json()

    def state(self, batch: Any) -> Any:
        return self.ask("GET", f"/v1/batches/{batch['id']}").json()

    def until(self, batch: Any, *states: str, seconds: float = 30) -> Any:
        deadline = time.monotonic() + seconds
        while (found := self.state(batch))["status"] not in (states or ENDED):
            assert time.monotonic() < deadline, found
            time.sleep(0.02)
        return found

    def lines(self, file: str | None) -> dict[str, Any]:
        if file is None:
            return {}
        content = self.ask("GET", f"/v1/files/{file}/content").body.decode().splitlines()
        found = [json.loads(one) for one in content]
        assert len({one["custom_id"] for one in found}) == len(found)
        return {one["custom_id"]: one for one in found}


@contextlib.contextmanager
def server_of(
    workshop: Path, folder: Path, data: Path, limits: Limits | None = None
) -> Iterator[tuple[Server, Service]]:
    store, limits = Store(data), limits or Limits()
    hosted = {}
    for name in ("chat", "base"):
        copied = folder / name
        if not copied.exists():
            wide_copy(workshop / name, copied, context=512)
        hosted[name] = Hosted(name, load(copied), limits=limits)
    service = Service(
        hosted=hosted, limits=limits, keys=Keys(store), files=Files(store, limits), batches=Batches(store)
    )
    with serving(make_app(service)) as server:
        yield server, service


@pytest.fixture(scope="module")
def served(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Service]]:
    folder = tmp_path_factory.mktemp("served")
    limits = Limits(file_bytes=300_000, owner_bytes=1_000_000)
    with server_of(workshop, folder, folder / "data", limits) as found:
        service = found[1]
        assert service.keys is not None
        service.keys.add("first")
        yield found


@pytest.fixture
def client(served: tuple[Server, Service], request: pytest.FixtureRequest) -> Client:
    server, service = served
    assert service.keys is not None
    return Client(server, service.keys.add(f"k{abs(hash(request.node.name))}"))


def test_responses_and_embeddings_come_in_batches_too(client: Client) -> None:
    bodies = {
        "/v1/responses": {"model": "chat", "input": "Hello", "max_output_tokens": 4, "temperature": 0, "store": False},
        "/v1/embeddings": {"model": "base", "input": ["The cat", "sat"]},
    }
    for endpoint, body in bodies.items():
        one = {"custom_id": "a", "method": "POST", "url": endpoint, "body": body}
        done = client.until(client.begin([one], endpoint))
        assert done["status"] == "completed" and done["usage"]["input_tokens"] > 0
        answer = client.lines(done["output_file_id"])["a"]["response"]["body"]
        plain = client.ask("POST", endpoint, body).json()
        if endpoint == "/v1/embeddings":
            assert answer == plain
        else:
            assert answer["output"][0]["content"] == plain["output"][0]["content"]
            wrong = client.until(client.begin([one | {"body": body | {"background": True, "store": True}}], endpoint))
            assert wrong["errors"]["data"][0]["param"] == "body.background"


def test_a_batch_answers_as_its_route_does(client: Client) -> None:
    batch = client.begin(
        [line("a"), line("b", logprobs=1, echo=True), line("c", temperature=-1.0 + 1.5)], metadata={"x": "y"}
    )
    assert batch["status"] == "validating" and batch["metadata"] == {"x": "y"}
    done = client.until(batch)
    assert done["status"] == "completed" and done["error_file_id"] is None
    assert done["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert done["created_at"] <= done["in_progress_at"] <= done["finalizing_at"] <= done["completed_at"]
    found = client.lines(done["output_file_id"])
    assert list(found) == ["a", "b", "c"] and found["a"]["error"] is None
    response = found["a"]["response"]
    plain = client.ask("POST", TEXT, line("a")["body"]).json()
    assert response["status_code"] == 200 and response["body"]["choices"] == plain["choices"]
    assert done["usage"]["total_tokens"] == sum(
        one["response"]["body"]["usage"]["total_tokens"] for one in found.values()
    )
    listed = client.ask("GET", "/v1/batches?limit=1").json()
    assert [one["id"] for one in listed["data"]] == [batch["id"]] and listed["has_more"] is False
    chat = client.until(client.begin([line("a", CHAT), line("b", CHAT, n=2)], CHAT))
    answers = client.lines(chat["output_file_id"])
    assert [len(one["response"]["body"]["choices"]) for one in answers.values()] == [1, 2]


def test_every_wrong_line_is_named_and_nothing_runs(client: Client) -> None:
    wrong = [
        (b"{\n", "invalid_json_line", None),
        (b"[" * 50_000 + b"\n", "invalid_json_line", None),
        (b'{"a": "\xff"}\n', "invalid_json_line", None),
        (b'"\\ud800"\n', "invalid_json_line", None),
        ({**line("\ud800")}, "invalid_custom_id", "custom_id"),
        ({**line("b"), "more\ud800": 1}, "unknown_parameter", "more?"),
        ({"custom_id": "c"}, "missing_required_parameter", "method"),
        (line("a"), "duplicate_custom_id", "custom_id"),
        (line("d", CHAT), "invalid_url", "url"),
        ({**line("e"), "method": "GET"}, "invalid_method", "method"),
        (line("f", temperature=-1.0), "invalid_request", "body.temperature"),
        (line("g", n="1"), "invalid_request", "body.n"),
        (line("h", model="none"), "model_not_found", "body.model"),
        (line("i", stream=True), "invalid_request", "body.stream"),
        (line("j", prompt="cat " * 5000), "context_length_exceeded", "body.messages"),
    ]
    failed = client.until(client.begin([line("a"), b"\n", *(one for one, _, _ in wrong)]))
    assert failed["status"] == "failed" and failed["failed_at"] and failed["output_file_id"] is None
    told = [(one["line"], one["code"], one["param"]) for one in failed["errors"]["data"]]
    assert told == [(place, code, param) for place, (_, code, param) in enumerate(wrong, start=3)]
    odd = [{"messages": [{"\ud800": 1}]}, {"\ud800": 1}]
    failed = client.until(client.begin([line(f"{place}", CHAT, **more) for place, more in enumerate(odd)], CHAT))
    assert [one["line"] for one in failed["errors"]["data"]] == [1, 2]
    empty = client.until(client.begin([b"\n"]))
    assert [one["code"] for one in empty["errors"]["data"]] == ["empty_file"]
    # One that no check foresees is told in the error file.
    mixed = client.until(client.begin([line("a"), line("b", structured_outputs={"regex": "(?<=a)b("})]))
    assert mixed["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    error = client.lines(mixed["error_file_id"])["b"]
    assert error["response"]["status_code"] == 400 and error["response"]["body"]["error"]["message"]


def test_files_are_kept_listed_and_deleted(client: Client) -> None:
    ids = [client.upload(as_file([line(str(place))]), name="../../x\n.jsonl").json()["id"] for place in range(3)]
    first = client.ask("GET", f"/v1/files/{ids[0]}").json()
    assert first["purpose"] == "batch" and first["status"] == "processed" and first["expires_at"] > time.time()
    assert client.ask("GET", f"/v1/files/{ids[0]}/content").body == as_file([line("0")])
    page = client.ask("GET", "/v1/files?limit=2&purpose=batch").json()
    assert [one["id"] for one in page["data"]] == ids[:0:-1] and page["has_more"]
    rest = client.ask("GET", f"/v1/files?after={page['last_id']}").json()
    assert [one["id"] for one in rest["data"]] == ids[:1] and not rest["has_more"]
    assert client.ask("GET", "/v1/files?order=asc&purpose=other").json()["data"] == []
    assert client.ask("DELETE", f"/v1/files/{ids[0]}").json()["deleted"] is True
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        for id in (ids[0], "file-x", "..%2fserver.db"):
            assert client.ask(method, f"/v1/files/{id}{path}").status == 404
    soon = client.upload(b"x", **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}).json()
    assert soon["expires_at"] == soon["created_at"] + 3600


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/v1/files", {"purpose": "batch"}, 400, None),
        ("/v1/batches", {}, 400, "input_file_id"),
        ("/v1/batches", {"input_file_id": "file-1"}, 400, "input_file_id"),
        ("/v1/batches", {"endpoint": "/v1/rerank"}, 400, "endpoint"),
        ("/v1/batches", {"completion_window": "1h"}, 400, "completion_window"),
        ("/v1/batches", {"metadata": {"a": "b" * 513}}, 400, "metadata.a"),
        ("/v1/batches", {"metadata": {"\ud800": "b"}}, 400, None),
        ("/v1/batches", {"output_expires_after": {"anchor": "created_at", "seconds": 1}}, 400, "output_expires_after"),
        ("/v1/batches/batch_1/cancel", {}, 404, "batch_id"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(
    client: Client, path: str, body: Any, status: int, param: str | None
) -> None:
    good = {"input_file_id": "file-1", "endpoint": TEXT, "completion_window": "24h"}
    answer = client.ask("POST", path, good | body if body and path.endswith("batches") else body)
    assert answer.status == status, answer.body
    assert param is None or answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"purpose": "assistants"}, 400),
        ({"other": "x"}, 400),
        ({"expires_after[seconds]": "x"}, 400),
        ({"x": "y" * 9999}, 400),
    ],
)
def test_forms_are_checked(client: Client, fields: dict[str, str], status: int) -> None:
    assert client.upload(b"x", **fields).status == status
    torn = {"content-type": "multipart/form-data; boundary=edge", **client.headers}
    for body in (b"", b"--edge", b"--edge\r\n\r\nx", b"nonsense" * 100):
        assert client.server.ask("POST", "/v1/files", body, headers=torn).status == 400, body
    bare = {**torn, "content-type": "multipart/form-data"}
    assert client.server.ask("POST", "/v1/files", b"x", headers=bare).status == 400


def test_room_is_bounded(client: Client) -> None:
    assert client.upload(b"x" * 300_001).status == 413 and client.upload(b"x" * 400_000).status == 413
    kept = [client.upload(b"x" * 300_000) for _ in range(4)]
    assert [answer.status for answer in kept] == [200, 200, 200, 413]
    assert kept[3].json()["error"]["code"] == "storage_full"
    assert client.ask("DELETE", f"/v1/files/{kept[0].json()['id']}").status == 200
    assert client.upload(b"x" * 300_000).status == 200


def test_each_key_sees_its_own(served: tuple[Server, Service], client: Client) -> None:
    assert served[1].keys is not None
    other = Client(served[0], served[1].keys.add("other"))
    batch = client.begin([line("a")])
    for method, path in (("GET", ""), ("POST", "/cancel")):
        assert other.ask(method, f"/v1/batches/{batch['id']}{path}").status == 404
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        assert other.ask(method, f"/v1/files/{batch['input_file_id']}{path}").status == 404
    assert other.ask("GET", "/v1/files").json()["data"] == other.ask("GET", "/v1/batches").json()["data"] == []
    body = {"input_file_id": batch["input_file_id"], "endpoint": TEXT, "completion_window": "24h"}
    assert other.ask("POST", "/v1/batches", body).status == 400
    client.until(batch)
    # A batch opens no route that the key may not use, and no model.
    narrow = Client(served[0], served[1].keys.add("narrow", routes=["/v1/files*", "/v1/batches*"]))
    file = narrow.upload(as_file([line("a")])).json()["id"]
    assert narrow.ask("POST", "/v1/batches", body | {"input_file_id": file}).status == 403
    few = Client(served[0], served[1].keys.add("few", models=["chat"]))
    assert few.until(few.begin([line("a")]))["errors"]["data"][0]["code"] == "model_not_found"


LONG = {"max_tokens": 480, "ignore_eos": True}


def begin_long(client: Client) -> Any:
    """A batch that is in its middle: the quick lines are answered, the long ones not all."""
    quick = [line(f"quick {place}") for place in range(40)]
    batch = client.begin([*quick, *(line(f"{place}", **LONG) for place in range(200))])
    while client.state(batch)["request_counts"]["completed"] < 40:
        time.sleep(0.01)
    return batch


def test_cancelling_keeps_what_is_answered(served: tuple[Server, Service], client: Client) -> None:
    batch = begin_long(client)
    assert client.ask("DELETE", f"/v1/files/{batch['input_file_id']}").status == 409
    assert client.ask("POST", f"/v1/batches/{batch['id']}/cancel").json()["status"] == "cancelling"
    done = client.until(batch, seconds=5)
    assert done["status"] == "cancelled" and done["cancelled_at"]
    answered, rest = client.lines(done["output_file_id"]), client.lines(done["error_file_id"])
    assert "quick 0" in answered and len(answered) == done["request_counts"]["completed"]
    assert len(answered) + len(rest) == 240 and {one["error"]["code"] for one in rest.values()} == {"batch_cancelled"}
    assert client.ask("POST", f"/v1/batches/{batch['id']}/cancel").status == 409
    assert served[1].hosted["base"].idle
    assert client.ask("DELETE", f"/v1/files/{batch['input_file_id']}").status == 200


def test_a_revoked_keys_batch_stops(served: tuple[Server, Service]) -> None:
    server, service = served
    assert service.keys is not None and service.batches is not None
    client = Client(server, service.keys.add("gone"))
    batch = client.begin([line(f"{place}", **LONG) for place in range(100)])
    client.until(batch, "in_progress")
    owner = next(key.id for key in service.keys.list() if key.name == "gone")
    service.keys.revoke("gone")
    deadline = time.monotonic() + 10
    while (found := service.batches.get(owner, batch["id"])).status != "cancelled":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert found.errors is not None and found.errors[0]["code"] == "key_revoked"


def test_a_quota_counts_and_makes_a_batch_wait(served: tuple[Server, Service]) -> None:
    server, service = served
    assert service.keys is not None
    client = Client(server, service.keys.add("poor", tokens_a_day=20))
    batch = client.begin([line(f"{place}") for place in range(20)])
    deadline = time.monotonic() + 10
    while next(key for key in service.keys.list() if key.name == "poor").used_today < 20:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    found = client.state(batch)
    assert found["status"] == "in_progress" and 0 < found["request_counts"]["completed"] < 10
    assert found["request_counts"]["failed"] == 0
    assert client.ask("POST", f"/v1/batches/{batch['id']}/cancel").status == 200
    client.until(batch)


def test_who_asks_does_not_wait_for_a_batch(served: tuple[Server, Service], client: Client) -> None:
    batch = client.begin([line(f"{place}", prompt="The cat sat. " * 20, n=4, **LONG) for place in range(60)])
    client.until(batch, "in_progress")
    hosted = served[1].hosted["base"]
    while hosted.stats().running < hosted.admission.background:
        time.sleep(0.01)
    steps: list[int] = []
    real = hosted.engine.step

    def counted() -> Any:
        steps.append(1)
        return real()

    hosted.engine.step = counted  # type: ignore[method-assign]
    assert client.ask("POST", TEXT, line("a", n=32, max_tokens=1)["body"]).status == 200
    # The step that was going, one that reads the prompt and draws; the rest is for the loop to hear of it.
    assert len(steps) < 30 and client.state(batch)["status"] == "in_progress"
    client.ask("POST", f"/v1/batches/{batch['id']}/cancel")
    client.until(batch)


def test_lines_outlive_the_engine(served: tuple[Server, Service], client: Client) -> None:
    hosted, batches = served[1].hosted["base"], served[1].batches
    assert batches is not None
    batch = client.begin([line(f"{place}", max_tokens=60, ignore_eos=True) for place in range(40)])
    client.until(batch, "in_progress")
    with batches.store.writing() as database:
        # As after so many kills while it was under way.
        database.execute("UPDATE lines SET tries = 9 WHERE batch = ? AND number = 40", (batch["id"],))
    before = hosted.restarts

    def fails() -> Any:
        raise RuntimeError("for this test")

    hosted.engine.step = fails  # type: ignore[method-assign]
    done = client.until(batch)
    assert hosted.restarts == before + 1
    assert done["request_counts"] == {"total": 40, "completed": 39, "failed": 1}
    response = client.lines(done["error_file_id"])["39"]["response"]
    assert response["status_code"] == 500 and "not asked again" in response["body"]["error"]["message"]


def test_a_place_of_a_batch_hinders_nobody() -> None:
    async def life() -> None:
        admission = Admission(4, Limits(), background=3)
        order: list[str] = []
        leave = asyncio.Event()

        async def ask(name: str, texts: int, background: bool) -> None:
            async with admission.place(name, texts=texts, tokens=1, background=background):
                order.append(name)
                await leave.wait()

        batches = [asyncio.create_task(ask(f"batch{place}", 1, True)) for place in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert order == ["batch0", "batch1", "batch2"] and admission.waiting == 0
        tasks = [asyncio.create_task(ask("user", 4, False))]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert order[3:] == ["user"]
        leave.set()
        await asyncio.gather(*batches, *tasks)
        assert admission.taken == 0

    asyncio.run(life())


def test_time_ends_batches_and_files(workshop: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with server_of(workshop, tmp_path, data) as (server, service):
        assert service.batches is not None and service.files is not None
        client = Client(server)
        batch = begin_long(client)
        with service.batches.store.writing() as database:
            database.execute("UPDATE batches SET expires = ?", (time.time(),))
        done = client.until(batch)
        assert done["status"] == "expired" and "quick 0" in client.lines(done["output_file_id"])
        assert {one["error"]["code"] for one in client.lines(done["error_file_id"]).values()} == {"batch_expired"}
        stored = BatchData(service.batches.store)
        told = list(stored.export(None))
        assert [one["kind"] for one in told] == ["file", "file", "file", "batch"]
        assert {one["owner"] for one in told} == {"local"} and list(stored.export("other")) == []
        assert told[2]["content"].startswith('{"custom_id": "quick 0"')
        old = service.files.folder / "file-000000000000000000000000"
        old.write_bytes(b"left by a killed process")
        os.utime(old, (0, 0))
        for sweep in (service.batches.sweep, service.files.sweep):
            sweep(3600)
        assert len(client.ask("GET", "/v1/files").json()["data"]) == 3 and not old.exists()
        for sweep in (service.batches.sweep, service.files.sweep):
            sweep(0)
        assert client.ask("GET", "/v1/batches").json()["data"] == [] and not list(service.files.folder.iterdir())
        # Deleting takes what is under way along.
        client.begin([line(f"{place}", **LONG) for place in range(50)])
        assert stored.clear("other") == 0 and stored.clear("local") == 2
        assert client.ask("GET", "/v1/files").json()["data"] == [] and not list(service.files.folder.iterdir())
        deadline = time.monotonic() + 10
        while not service.hosted["base"].idle:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        # Another server on the same folder leaves the batches to the first.
        with server_of(workshop, tmp_path, data) as (second, _):
            other = Client(second)
            file = other.upload(as_file([line("a")])).json()["id"]
            body = {"input_file_id": file, "endpoint": TEXT, "completion_window": "24h"}
            assert other.ask("POST", "/v1/batches", body).status == 503
            assert client.ask("POST", "/v1/batches", body).status == 200


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(model: Path, data: Path) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    port = free_port()
    command = [sys.executable, "-m", "ownlm.cli", "serve", f"base={model}", "--data", str(data), "--port", str(port)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert running.stdout is not None
    try:
        assert "Serving" in running.stdout.readline()
        yield running, Client(Server(port))
    finally:
        running.kill()
        running.wait()
        running.stdout.close()


def test_a_killed_server_goes_on_where_it_stood(workshop: Path, tmp_path: Path) -> None:
    model, data = wide_copy(workshop / "base", tmp_path / "base", context=512), tmp_path / "data"
    asked = [line(f"line {place}", max_tokens=10 + 3 * place, ignore_eos=True, seed=place) for place in range(60)]
    with process(model, data) as (running, client):
        batch = client.begin(asked)
        while not client.state(batch)["request_counts"]["completed"] >= 5:
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        running.wait()
    before = Batches(Store(data)).get("local", batch["id"])
    assert before.status == "in_progress" and 5 <= before.completed < 60
    kept = {row["custom_id"]: row["answer"] for row in Batches(Store(data)).lines(batch["id"]) if row["answer"]}
    with process(model, data) as (running, client):
        done = client.until(batch, seconds=60)
        assert done["status"] == "completed" and done["request_counts"] == {"total": 60, "completed": 60, "failed": 0}
        found = client.lines(done["output_file_id"])
        assert list(found) == [one["custom_id"] for one in asked]
        assert all(found[name] == json.loads(answer) for name, answer in kept.items())
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
