"""/v1/responses: the order of events, tools and forms, what is kept and for whom, and what outlives a kill."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ownlm.cli.main import run as ownlm
from ownlm.engine import Piece
from ownlm.errors import OwnlmError
from ownlm.opened import load
from ownlm.server.app import make_app
from ownlm.server.errors import ApiError
from ownlm.server.hosted import Hosted
from ownlm.server.keys import Keys
from ownlm.server.responses.going import Responses
from ownlm.server.responses.items import messages_of, read_items
from ownlm.server.responses.kept import Kept
from ownlm.server.responses.writer import Writer
from ownlm.server.said import Delta
from ownlm.server.service import Service
from ownlm.server.store import Store
from ownlm.server.stored import delete, export
from serving import Answer, Server, serving, wide_copy

TEXT = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]
WEATHER = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Bern"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
# Long enough to be stopped on its way.
LONG = {"background": True, "ignore_eos": True, "max_output_tokens": 300}


@pytest.fixture(scope="module")
def model(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wide_copy(workshop / "chat", tmp_path_factory.mktemp("served") / "chat")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def keys(store: Store) -> dict[str, str]:
    return {name: Keys(store).add(name) for name in ("anna", "bob")}


@pytest.fixture(scope="module")
def server(model: Path, store: Store, keys: dict[str, str]) -> Iterator[Server]:
    service = Service(hosted={"chat": Hosted("chat", load(model))}, keys=Keys(store), responses=Responses(Kept(store)))
    with serving(make_app(service)) as server:
        yield server


@pytest.fixture
def ask(server: Server, keys: dict[str, str]) -> Any:
    def ask(method: str, path: str = "", body: Any = None, *, key: str = "anna") -> Answer:
        headers = {"authorization": f"Bearer {keys[key]}"}
        return server.ask(method, f"/v1/responses{path}", body, headers=headers)

    return ask


@pytest.fixture
def respond(ask: Any) -> Any:
    def respond(*, key: str = "anna", **more: Any) -> Answer:
        body = {"model": "chat", "input": "Who are you?", "max_output_tokens": 12, "temperature": 0, **more}
        found: Answer = ask("POST", "", {name: value for name, value in body.items() if value is not None}, key=key)
        return found

    return respond


def until(ask: Any, id: str, *statuses: str) -> Any:
    deadline = time.monotonic() + 30
    while (found := ask("GET", f"/{id}").json())["status"] not in statuses:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def text_of(response: Any) -> str:
    return "".join(part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"])


def kinds(events: list[Any]) -> list[str]:
    """In order, deltas that follow each other once."""
    found = [event["type"] for event in events]
    return [kind for place, kind in enumerate(found) if not kind.endswith(".delta") or kind != found[place - 1]]


def test_an_answer_is_the_models_own(respond: Any, ask: Any, model: Path) -> None:
    found = respond(instructions="Be kind.", metadata={"a": "b"}).json()
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who are you?"}]
    answer = load(model).chat(messages, max_tokens=12, temperature=0)
    assert text_of(found) == answer.text and found["usage"]["output_tokens"] == len(answer.token_ids)
    assert re.fullmatch(r"resp_[0-9a-f]{32}", found["id"]) and found["status"] == "completed"
    assert found["metadata"] == {"a": "b"} and found["store"] is True
    assert ask("GET", f"/{found['id']}").json() == found


def test_a_stream_comes_in_order(respond: Any) -> None:
    whole = respond().json()
    answer = respond(stream=True, include=["message.output_text.logprobs"], top_logprobs=1)
    assert answer.body.startswith(b"event: response.created\ndata: ") and b"[DONE]" not in answer.body
    events = answer.events()
    assert kinds(events) == [*TEXT, "response.completed"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(event["delta"] for event in deltas) == text_of(whole) == text_of(events[-1]["response"])
    spelled = b"".join(bytes(one["bytes"]) for event in deltas for one in event["logprobs"])
    assert spelled.decode() == text_of(whole)
    assert len({event["item_id"] for event in events if "item_id" in event}) == 1


def test_what_was_cut_is_incomplete(respond: Any) -> None:
    events = respond(stream=True, max_output_tokens=2).events()
    assert kinds(events) == [*TEXT, "response.incomplete"]
    response = events[-1]["response"]
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == response["status"] == "incomplete"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "weather"}])
def test_a_call_and_its_result_go_round(respond: Any, choice: Any) -> None:
    asked = {"tools": [WEATHER, {"type": "web_search"}], "tool_choice": choice, "max_output_tokens": 60}
    events = respond(stream=True, **asked).events()
    assert kinds(events) == [
        *TEXT[:3],
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    response = events[-1]["response"]
    call = response["output"][0]
    assert json.loads(call["arguments"])["city"] in ("Rome", "Bern") and call["id"] != call["call_id"]
    assert [tool["name"] for tool in response["tools"]] == ["weather"]
    result = {"type": "function_call_output", "call_id": call["call_id"], "output": "It rains."}
    assert respond(input=[result], previous_response_id=response["id"]).status == 200
    question = {"role": "user", "content": "Who are you?"}
    assert respond(input=[question, call, result]).status == 200
    assert respond(input=[question, {"type": "item_reference", "id": call["id"]}, result]).status == 200
    other = respond(input=[question, {"type": "item_reference", "id": call["id"]}, result], key="bob")
    assert other.status == 404


def test_a_schema_is_kept_to(respond: Any) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    form = {"type": "json_schema", "name": "x", "strict": True, "schema": {**schema, "additionalProperties": False}}
    found = respond(text={"format": form}, max_output_tokens=40).json()
    assert json.loads(text_of(found))["ok"] in (True, False) and found["text"]["format"] == form


def test_a_conversation_is_rebuilt_without_its_instructions(respond: Any, ask: Any) -> None:
    first = respond(instructions="Be kind.").json()
    second = respond(input="What is 3 + 4?", previous_response_id=first["id"]).json()
    items = [
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": text_of(first)},
        {"role": "user", "content": "What is 3 + 4?"},
    ]
    plain = respond(input=items).json()
    assert text_of(second) == text_of(plain) and second["usage"]["input_tokens"] == plain["usage"]["input_tokens"]
    counted = ask("POST", "/input_tokens", {"input": "What is 3 + 4?", "previous_response_id": first["id"]}).json()
    assert counted == {"object": "response.input_tokens", "input_tokens": plain["usage"]["input_tokens"]}
    page = ask("GET", f"/{plain['id']}/input_items?limit=2&order=asc").json()
    assert [item["role"] for item in page["data"]] == ["user", "assistant"] and page["has_more"]
    rest = ask("GET", f"/{plain['id']}/input_items?order=asc&after={page['last_id']}").json()
    assert rest["data"][0]["content"] == [{"type": "input_text", "text": "What is 3 + 4?"}] and not rest["has_more"]
    assert ask("DELETE", f"/{first['id']}").json()["deleted"] is True
    lost = respond(previous_response_id=second["id"])
    assert lost.status == 404 and lost.json()["error"]["param"] == "previous_response_id"


def test_store_false_keeps_nothing(respond: Any, ask: Any) -> None:
    found = respond(store=False).json()
    assert found["store"] is False and ask("GET", f"/{found['id']}").status == 404
    assert respond(store=False, background=True).json()["error"]["param"] == "background"


def test_two_keys_never_see_each_others(respond: Any, ask: Any) -> None:
    id = respond().json()["id"]
    running = respond(**LONG).json()["id"]
    for one in (id, running):
        for method, path in (("GET", ""), ("GET", "?stream=true"), ("GET", "/input_items"), ("POST", "/cancel")):
            assert ask(method, f"/{one}{path}", key="bob").status == 404, path
        assert ask("DELETE", f"/{one}", key="bob").status == 404
        assert respond(previous_response_id=one, key="bob").status == 404
    assert respond(previous_response_id=running).json()["error"]["param"] == "previous_response_id"
    assert ask("GET", f"/{id}").status == 200 and ask("DELETE", f"/{running}").status == 200
    assert ask("GET", f"/{running}").status == 404


def test_a_background_answer_goes_on_and_can_be_followed(respond: Any, ask: Any, server: Server, keys: Any) -> None:
    queued = respond(background=True).json()
    assert queued["status"] in ("queued", "in_progress") and queued["output"] == []
    ended = until(ask, queued["id"], "completed")
    assert text_of(ended) and ask("POST", f"/{ended['id']}/cancel").json() == ended
    assert ask("GET", f"/{ended['id']}?stream=true").json()["error"]["param"] == "stream"
    body = json.dumps({"model": "chat", "input": "Hello", "stream": True, **LONG}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {keys['anna']}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        read = b""
        while b"resp_" not in read:
            read += connection.recv(1000)
    found = re.search(rb"resp_[0-9a-f]{32}", read)
    assert found is not None
    # Its client has left; another one comes in the middle, and once more when all is over.
    id = found[0].decode()
    events = ask("GET", f"/{id}?stream=true&starting_after=3").events()
    assert [event["sequence_number"] for event in events] == list(range(4, len(events) + 4))
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["usage"]["output_tokens"] == 300
    assert ask("GET", f"/{id}?stream=true&starting_after=3").events() == events
    assert ask("GET", f"/{id}").json() == events[-1]["response"]
    assert ask("GET", f"/{id}?stream=true&starting_after=9999").status == 400


def test_cancelling(respond: Any, ask: Any, server: Server, keys: Any) -> None:
    running = respond(**LONG).json()["id"]
    until(ask, running, "in_progress")
    assert ask("POST", f"/{running}/cancel").json()["status"] == "cancelled"
    assert ask("GET", f"/{running}").json()["status"] == "cancelled"
    assert ask("POST", f"/{respond().json()['id']}/cancel").status == 400
    # One whose client leaves is cancelled, where it is not in the background.
    body = json.dumps({"model": "chat", "input": "Hello", "stream": True, **LONG, "background": False}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"POST /v1/responses HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {keys['anna']}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        read = b""
        while b"output_text.delta" not in read:
            read += connection.recv(1000)
        found = re.search(rb"resp_[0-9a-f]{32}", read)
    assert found is not None
    left = until(ask, found[0].decode(), "cancelled")
    assert text_of(left) and 0 < left["usage"]["output_tokens"] < 300


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"input": []}, 400, "input"),
        ({"input": [{"type": "image_generation_call"}]}, 400, "input[0].type"),
        ({"input": [{"role": "king", "content": "x"}]}, 400, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, 400, "input[0].content"),
        ({"input": [{"role": "user", "content": "x", "sizes": 1}]}, 400, "input[0].sizes"),
        ({"input": [{"type": "function_call_output", "call_id": 1, "output": "x"}]}, 400, "input[0].call_id"),
        ({"input": "cat " * 5000}, 400, "input"),
        ({"tools": [{"type": "function", "name": "a b"}]}, 400, "tools[0].name"),
        ({"tools": [{"type": "teapot"}]}, 400, "tools[0].type"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, 400, "tool_choice"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}}, 400, "tool_choice"),
        ({"tools": [{**WEATHER, "description": "\ud800"}]}, 400, "tools[0].description"),
        ({"tools": [{**WEATHER, "parameters": {"minimum": float("nan")}}]}, 400, "tools[0].parameters.minimum"),
        ({"text": {"format": {"type": "json_schema"}}}, 400, "text.format.name"),
        ({"text": {"verbosity": "low"}}, 400, "text.verbosity"),
        ({"truncation": "auto"}, 400, "truncation"),
        ({"reasoning": {"effort": "all"}}, 400, "reasoning.effort"),
        ({"include": ["everything"]}, 400, "include"),
        ({"top_logprobs": 1}, 400, "top_logprobs"),
        ({"metadata": {"\ud800": "b"}}, 400, "metadata"),
        ({"instructions": "\ud800"}, 400, "instructions"),
        ({"metadata": {"a": "b" * 513}}, 400, "metadata"),
        ({"conversation": "conv_1"}, 400, "conversation"),
        ({"max_output_tokens": 0}, 400, "max_output_tokens"),
        ({"n": 2}, 400, "n"),
        ({"model": "none"}, 404, "model"),
        ({"previous_response_id": "resp_" + "0" * 32}, 404, "previous_response_id"),
        ({"previous_response_id": "../../etc"}, 404, "previous_response_id"),
    ],
)
def test_what_is_wrong_is_named(respond: Any, change: dict[str, Any], status: int, param: str) -> None:
    answer = respond(**change)
    assert answer.status == status, answer.body
    assert answer.json()["error"]["param"] == param and answer.json()["error"]["type"] == "invalid_request_error"


class Scripted:
    """Instead of a reader of what a model writes."""

    reasoning_tokens = 2

    def __init__(self, *deltas: Delta) -> None:
        self.deltas = deltas

    def push(self, pieces: Any) -> Iterator[Delta]:
        yield from self.deltas


def test_thoughts_words_and_calls_are_items_of_their_own() -> None:
    said = (
        Delta(reasoning="Hm"),
        Delta(reasoning="m."),
        Delta(text="\n"),
        Delta(text="Look:"),
        Delta(text="\n"),
        Delta(index=0, id="call_1", name="find"),
        Delta(index=0, arguments='{"a":1}'),
        Delta(text="\n"),
        Delta(index=1, id="call_2", name="end"),
    )
    response: dict[str, Any] = {"id": f"resp_{'0' * 32}", "status": "in_progress", "output": []}
    writer = Writer(response, Scripted(*said))  # type: ignore[arg-type]
    raw = [writer.created(), writer.in_progress(), *writer.push([Piece(token_id=0, text="", logprob=0.0)])]
    events = Answer(200, {}, b"".join([*raw, *writer.finish("stop"), writer.last()])).events()
    call = ["response.function_call_arguments.delta", "response.function_call_arguments.done"]
    item = ["response.output_item.added", "response.output_item.done"]
    thought = ["response.reasoning_text.delta", "response.reasoning_text.done"]
    assert kinds(events) == [
        *TEXT[:2],
        *(item[0], *thought, item[1]),
        *TEXT[2:],
        *(item[0], *call, item[1]),
        *(item[0], *call, item[1]),
        "response.completed",
    ]
    assert [one["type"] for one in response["output"]] == ["reasoning", "message", "function_call", "function_call"]
    assert text_of(response) == "\nLook:\n" and response["output"][-1]["arguments"] == "{}"
    assert [event["output_index"] for event in events if event["type"] == item[0]] == [0, 1, 2, 3]


def test_items_become_messages() -> None:
    call = {"type": "function_call", "name": "f", "arguments": "{}"}
    items = read_items(
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {**call, "call_id": "1"},
            {**call, "call_id": "2"},
            {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "one"}]},
            {"type": "function_call_output", "call_id": "2", "output": "two"},
        ]
    )
    messages = messages_of("Be kind.", items)
    assert [one["role"] for one in messages] == ["system", "user", "assistant", "tool", "tool"]
    assert messages[0]["content"] == "Be kind.\n\nBe brief." and messages[2]["reasoning_content"] == "Hm."
    assert [one["id"] for one in messages[2]["tool_calls"]] == ["1", "2"]
    assert [one["content"] for one in messages[3:]] == ["one", "two"]


def row(number: int, previous: str | None = None, **more: Any) -> dict[str, Any]:
    id = f"resp_{number:032x}"
    return {"id": id, "status": "completed", "output": [], "previous_response_id": previous, **more}


def fill(kept: Kept, owner: str, numbers: Any, **more: Any) -> None:
    for number in numbers:
        kept.begin(owner, row(number, **more), [])
        kept.end(owner, row(number, **more))


def there(kept: Kept, owner: str) -> list[int]:
    return [int(one["response"]["id"][5:], 16) for one in kept.export(owner)]


def test_the_store_has_bounds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    few, small = Kept(store, most=3), Kept(store, most_bytes=3_000)
    few.begin("a", row(0), [])
    fill(few, "a", range(1, 6))
    # What is under way stays, and so does another owner's.
    assert there(few, "a") == [0, 3, 4, 5]
    few.end("a", row(0))
    fill(small, "b", range(10, 14), text="x" * 1_000)
    assert there(small, "b") == [12, 13] and len(there(few, "a")) == 3
    fill(small, "b", [14], text="x" * 10_000)
    assert there(small, "b") == [14]
    old = Kept(store, seconds=0.05)
    time.sleep(0.1)
    fill(old, "a", [20])
    assert old.expire() == 4 and there(old, "a") == [20] and Kept(store, seconds=None).expire() == 0


def test_a_chain_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(Store(tmp_path))
    for number in range(4):
        fill(kept, "a", [number], previous=row(number - 1)["id"] if number else None, text="x" * 100)
    assert kept.conversation("a", row(3)["id"], most_bytes=10_000) == []
    with pytest.raises(ApiError, match="too long"):
        kept.conversation("a", row(3)["id"], most_bytes=500)
    monkeypatch.setattr("ownlm.server.responses.kept.LONGEST_CHAIN", 3)
    with pytest.raises(ApiError, match="more than 3"):
        kept.conversation("a", row(3)["id"], most_bytes=10_000)


def test_what_is_stored_is_exported_and_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    keys = Keys(store)
    keys.add("anna")
    fill(Kept(store), keys.list()[0].id, [1], text="a secret of hers")
    fill(Kept(store), "local", [2])
    keys.revoke("anna")
    assert [one["key"] for one in export(store)] == ["anna", "local"]
    with pytest.raises(OwnlmError, match="never was"):
        delete(store, "carl")
    assert ownlm(["serve", "data", "export", "--key", "anna", "--data", str(tmp_path)]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["kind"] == "response" and line["response"]["text"] == "a secret of hers" and line["input"] == []
    assert ownlm(["serve", "data", "delete", "--key", "anna", "--data", str(tmp_path)]) == 0
    assert [one["key"] for one in export(store)] == ["local"]
    assert not any(b"a secret of hers" in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert ownlm(["serve", "data", "delete", "--data", str(tmp_path)]) == 0
    assert list(export(store)) == []
    assert ownlm(["serve", "data", "export", "--data", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("keep", ["", "d", "30", "0d", "-1d", "1y", "1.5d", "9" * 5000 + "d", "٣d"])
def test_a_time_to_keep_that_is_none(keep: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ownlm(["serve", "x", "--data", str(tmp_path), f"--keep={keep}"]) == 2
    assert "--keep must be a time" in capsys.readouterr().err


def test_what_was_kept_outlives_a_kill(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ownlm.cli", "serve", f"chat={model}", "--port", "0", "--data", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        port = re.search(r"http://127.0.0.1:(\d+)", process.stdout.readline())
        assert port is not None and "kept for 30d" in process.stdout.readline()
        server = Server(int(port[1]))
        ended = server.post("/v1/responses", {"model": "chat", "input": "Hello", "max_output_tokens": 3}).json()
        going = server.post("/v1/responses", {"model": "chat", "input": "Hello", **LONG}).json()
        process.send_signal(signal.SIGKILL)
        process.wait()
    responses = Responses(Kept(Store(tmp_path)))
    with serving(make_app(Service(hosted={}, responses=responses))) as server:
        assert server.get(f"/v1/responses/{ended['id']}").json() == ended
        lost = server.get(f"/v1/responses/{going['id']}").json()
    assert lost["status"] == "failed" and lost["error"]["code"] == "server_error"


def test_what_another_server_of_the_folder_answers_is_not_lost(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second = Kept(store), Kept(Store(tmp_path))
    first.open()
    response = {"id": f"resp_{'0' * 32}", "previous_response_id": None, "status": "in_progress"}
    first.begin("local", response, [])
    second.open()
    assert second.get("local", response["id"])["status"] == "in_progress"
    first.close()
    second.close()
    first.open()
    assert first.get("local", response["id"])["status"] == "failed"
    first.close()


def test_to_store_where_nothing_is_stored_is_refused(workshop: Path) -> None:
    service = Service(hosted={"base": Hosted("base", load(workshop / "base"))})
    with serving(make_app(service)) as server:
        asked = {"model": "base", "input": "Hi"}
        assert server.post("/v1/responses", {**asked, "store": True}).json()["error"]["param"] == "store"
