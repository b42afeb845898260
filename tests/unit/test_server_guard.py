"""A policy on a served model: in every dialect, whole and streamed, nothing forbidden is asked or said."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.engine import Request
from ownlm.opened import load
from ownlm.server.app import make_app
from ownlm.server.batches.kept import Batches
from ownlm.server.files import Files
from ownlm.server.guard.guard import Guard
from ownlm.server.guard.log import NAME, DecisionLog
from ownlm.server.guard.policy import read_policy
from ownlm.server.guard.verify import verify
from ownlm.server.hosted import Hosted
from ownlm.server.keys import Keys
from ownlm.server.limits import Limits
from ownlm.server.responses.going import Responses
from ownlm.server.responses.kept import Kept
from ownlm.server.service import Service
from ownlm.server.store import Store
from serving import Answer, Server, serving, wide_copy

REFUSAL = "No birds here."
POLICY = """\
refusal = "No birds here."

[[rules]]
name = "birds"
where = "both"
words = ["Bluebird"]
action = "refuse"
models = ["strict"]

[[rules]]
name = "masked birds"
where = "both"
words = ["Bluebird"]
action = "mask"
mask = "[bird]"
models = ["masking"]

[[rules]]
name = "people"
where = "both"
personal_data = ["e-mail"]
action = "mask"
models = ["masking"]

[[rules]]
name = "asked birds"
where = "input"
words = ["Bluebird"]
action = "refuse"
keys = ["anna"]
models = ["free"]

[[rules]]
name = "judged"
where = "both"
action = "refuse"
models = ["judged"]
[rules.guard_model]
model = "llama-guard"
url = "{url}/v1"
key_from = "TEST_GUARD_KEY"
seconds = 0.5

[[rules]]
name = "judged softly"
where = "input"
action = "refuse"
models = ["free"]
keys = ["softly"]
[rules.guard_model]
model = "gone"
url = "http://127.0.0.1:9/v1"
on_failure = "allow"

[[rules]]
name = "judged here"
where = "input"
action = "refuse"
models = ["free"]
keys = ["judged-here"]
[rules.guard_model]
model = "strict"
prompt = "Is this safe? {text}"
unsafe = "yes"
safe = "no"
"""
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "blu\\u0065bird"}}\n</tool_call>'
DIALECTS = ("chat", "completions", "responses", "messages")


class Script:
    """What the model says next, whatever it was asked."""

    def __init__(self, hosted: Hosted) -> None:
        self._hosted, self._model, self._left = hosted, (model := hosted.model), [0]
        model.decoder.head = self._head  # type: ignore[method-assign]

    def says(self, text: str) -> None:
        # What was cut off is let go of at the next step.
        while self._hosted.stats().running:
            time.sleep(0.002)
        self._left = self._model.tokenizer.encode(text)

    def _head(self, hidden_RE: torch.Tensor) -> torch.Tensor:
        logits_RV = torch.zeros(len(hidden_RE), self._model.decoder.config.vocab_size)
        logits_RV[:, self._left.pop(0) if self._left else self._model.end_ids[0]] = 100.0
        return logits_RV


@dataclass
class Judge:
    """A guard model behind a URL: it says `answer`, after `seconds`; what it was asked gathers."""

    url: str
    answer: Any = "safe"
    seconds: float = 0.0
    asked: list[Any] = field(default_factory=list)


@contextmanager
def judging() -> Iterator[Judge]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            judge.asked.append((self.path, self.headers["authorization"], body))
            time.sleep(judge.seconds)
            said = judge.answer
            raw = (
                said if isinstance(said, bytes) else json.dumps({"choices": [{"message": {"content": said}}]}).encode()
            )
            try:
                self.send_response(200 if said != b"500" else 500)
                self.end_headers()
                self.wfile.write(raw)
            except OSError:
                pass

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    judge = Judge(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield judge
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class World:
    server: Server
    folder: Path
    hosted: dict[str, Hosted]
    scripts: dict[str, Script]
    judge: Judge
    keys: dict[str, str]
    submitted: list[Request]

    def post(self, path: str, body: Any, *, key: str = "ben") -> Answer:
        return self.server.post(path, body, headers={"authorization": f"Bearer {self.keys[key]}"})

    def get(self, path: str) -> Answer:
        return self.server.get(path, headers={"authorization": f"Bearer {self.keys['ben']}"})

    def decisions(self) -> list[Any]:
        return [json.loads(line) for line in (self.folder / NAME).read_text().splitlines()]


@pytest.fixture(scope="module")
def world(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("guarded")
    source = wide_copy(workshop / "chat", folder / "model")
    hosted, scripts, submitted = {}, {}, list[Request]()
    for name in ("strict", "masking", "judged", "free"):
        hosted[name] = Hosted(name, load(source))
        scripts[name] = Script(hosted[name])

        def submit(request: Request, adapter: str | None = None, *, submit: Any = hosted[name].submit) -> Any:
            submitted.append(request)
            return submit(request, adapter)

        hosted[name].submit = submit  # type: ignore[method-assign]
    data = folder / "data"
    store = Store(data)
    keys = Keys(store)
    with judging() as judge, pytest.MonkeyPatch.context() as patched:
        patched.setenv("TEST_GUARD_KEY", "guard-key")
        (folder / "policy.toml").write_text(POLICY.replace("{url}", judge.url))
        policy = read_policy(folder / "policy.toml")
        service = Service(
            hosted=hosted,
            keys=keys,
            responses=Responses(Kept(store, seconds=None)),
            files=Files(store, Limits()),
            batches=Batches(store),
            guard=Guard(policy, DecisionLog(data), hosted.get),
        )
        names = {name: keys.add(name) for name in ("anna", "ben", "judged-here", "softly")}
        with serving(make_app(service)) as server:
            yield World(server, data, hosted, scripts, judge, names, submitted)
    found = verify(data / NAME)
    assert found.broken is None and found.decisions > 20
    written = (data / NAME).read_text().lower()
    assert "bluebird" not in written and "example.org" not in written


def ask(world: World, dialect: str, model: str, text: str, *, stream: bool, key: str = "ben", **more: Any) -> Any:
    """(all that was said, why it ended) in any dialect."""
    body: dict[str, Any] = {"model": model, "stream": stream, "temperature": 0, **more}
    talk = [{"role": "user", "content": text}]
    match dialect:
        case "chat":
            path, given = "/v1/chat/completions", {"messages": talk, "max_tokens": 200}
        case "completions":
            path, given = "/v1/completions", {"prompt": text, "max_tokens": 200}
        case "messages":
            path, given = "/v1/messages", {"messages": talk, "max_tokens": 200}
        case _:
            path, given = "/v1/responses", {"input": text, "max_output_tokens": 200}
    answer = world.post(path, given | body, key=key)
    assert answer.status == 200, answer.body
    return read_stream(answer, dialect) if stream else read_whole(answer.json(), dialect)


def read_whole(found: Any, dialect: str) -> tuple[str, Any]:
    if dialect == "chat":
        (choice, *_), said = found["choices"], ""
        message = choice["message"]
        for call in message.get("tool_calls", ()):
            said += call["function"]["arguments"]
        return message.get("reasoning_content", "") + said + (message["content"] or ""), choice["finish_reason"]
    if dialect == "completions":
        return found["choices"][0]["text"], found["choices"][0]["finish_reason"]
    if dialect == "messages":
        parts = [one.get("text") or json.dumps(one.get("input", "")) for one in found["content"]]
        return "".join(parts), found["stop_reason"]
    said = ""
    for item in found["output"]:
        said += item.get("arguments", "")
        said += "".join(part.get("text", "") or part.get("refusal", "") for part in item.get("content", ()))
    return said, (found["incomplete_details"] or {}).get("reason") or found["status"]


def read_stream(answer: Answer, dialect: str) -> tuple[str, Any]:
    said, reason = "", None
    for event in answer.events():
        if dialect == "chat":
            for choice in event["choices"]:
                delta = choice["delta"]
                said += delta.get("reasoning_content", "") + (delta.get("content") or "")
                said += "".join(call["function"]["arguments"] for call in delta.get("tool_calls", ()))
                reason = choice["finish_reason"] or reason
        elif dialect == "completions":
            for choice in event["choices"]:
                said, reason = said + choice["text"], choice["finish_reason"] or reason
        elif dialect == "messages":
            delta = event.get("delta", {})
            said += delta.get("text", "") + delta.get("partial_json", "") + delta.get("thinking", "")
            reason = delta.get("stop_reason") or reason
        elif event["type"].endswith(".delta"):
            said += event["delta"]
        elif event["type"] in ("response.completed", "response.incomplete"):
            whole, reason = read_whole(event["response"], dialect)
            assert whole.replace("\n", "") == said.replace("\n", "")
    return said, reason


ENDS = {"chat": "content_filter", "completions": "content_filter", "messages": "refusal", "responses": "content_filter"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_refused_question_is_answered_with_the_refusal(world: World, dialect: str, stream: bool) -> None:
    world.submitted.clear()
    assert ask(world, dialect, "strict", "About blue\u200bBIRDs: a Blue\u200bbird?", stream=stream) == (
        REFUSAL,
        ENDS[dialect],
    )
    assert world.submitted == []
    assert (
        world.decisions()[-1] | {"rule": "birds", "action": "refuse", "where": "input", "key": "ben"}
        == (world.decisions()[-1])
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_answer_ends_before_what_is_refused(world: World, dialect: str, stream: bool) -> None:
    world.scripts["strict"].says("It sings, the BlueBird, " + "and so on " * 30)
    said, reason = ask(world, dialect, "strict", "Who sings?", stream=stream)
    assert said.replace("\n", "") == f"It sings, the {REFUSAL}" and reason == ENDS[dialect]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_masked_is_neither_read_nor_said(world: World, dialect: str, stream: bool) -> None:
    world.submitted.clear()
    world.scripts["masking"].says("A bluebird: ask anna@mail.example.org, now.")
    said, _ = ask(world, dialect, "masking", "Where is the bluebird?", stream=stream)
    assert said == "A [bird]: ask [e-mail], now."
    read = world.hosted["masking"].model.tokenizer.decode(world.submitted[-1].prompt)
    assert "Where is the [bird]?" in read and "bluebird" not in read


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", ["chat", "messages", "responses"])
def test_a_calls_arguments_are_masked_too(world: World, dialect: str, stream: bool) -> None:
    function = {"name": "weather", "description": "As it is."}
    tools: list[Any] = [{"type": "function", "function": {**function, "parameters": SCHEMA}}]
    if dialect == "messages":
        tools = [{**function, "input_schema": SCHEMA}]
    if dialect == "responses":
        tools = [{"type": "function", **function, "parameters": SCHEMA}]
    world.scripts["masking"].says(CALL)
    said, _ = ask(world, dialect, "masking", "Weather?", stream=stream, tools=tools)
    assert json.loads(said) == {"city": "[bird]"}


def test_all_choices_of_all_prompts_are_looked_at(world: World) -> None:
    world.scripts["strict"].says("a bluebird flies")
    found = world.post("/v1/completions", {"model": "strict", "prompt": "x", "n": 2, "max_tokens": 60}).json()
    assert found["choices"][0]["text"] == f"a \n\n{REFUSAL}"
    assert all("bluebird" not in choice["text"] for choice in found["choices"])
    body = {"model": "strict", "prompt": ["one", "a bluebird", "two"], "echo": True, "logprobs": None}
    found = world.post("/v1/completions", body).json()
    assert [choice["text"] for choice in found["choices"]] == [REFUSAL] * 3
    ids = world.hosted["strict"].model.tokenizer.encode("the bluebird")
    found = world.post("/v1/completions", {"model": "strict", "prompt": [ids]}).json()
    assert found["choices"][0]["text"] == REFUSAL
    assert found["usage"]["completion_tokens"] == 0


@pytest.mark.parametrize(
    ("path", "more", "named"),
    [
        ("/v1/completions", {"prompt": "x", "logprobs": 1}, "logprobs"),
        ("/v1/completions", {"prompt": "x", "logprobs": 1, "echo": True}, "logprobs"),
        ("/v1/completions", {"prompt": "x", "return_token_ids": True}, "return_token_ids"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "logprobs": True}, "logprobs"),
        ("/v1/responses", {"input": "x", "include": ["message.output_text.logprobs"]}, "logprobs"),
    ],
)
def test_what_would_show_a_hidden_token_is_refused_by_name(world: World, path: str, more: Any, named: str) -> None:
    answer = world.post(path, {"model": "masking", **more})
    assert answer.status == 400 and named in answer.json()["error"]["message"]
    world.scripts["free"].says("yes")
    assert world.post(path, {"model": "free", **more}).status == 200


def test_scores_are_of_what_was_read(world: World) -> None:
    """A rule for questions alone leaves log-probabilities, of the masked prompt or of none."""
    world.scripts["free"].says("yes")
    body = {"model": "free", "prompt": "a bluebird", "echo": True, "logprobs": 1, "max_tokens": 1}
    found = world.post("/v1/completions", body, key="anna").json()["choices"][0]
    assert found["text"] == REFUSAL and len(found["logprobs"]["tokens"]) == 1
    found = world.post("/v1/completions", body).json()["choices"][0]
    assert found["text"].startswith("a bluebird")


def test_the_assistants_own_beginning_brings_no_end(world: World) -> None:
    world.scripts["strict"].says("bird is its name")
    talk = [{"role": "user", "content": "Its name?"}, {"role": "assistant", "content": "A blue"}]
    found = world.post("/v1/messages", {"model": "strict", "messages": talk, "max_tokens": 60}).json()
    assert found["content"][0]["text"] == REFUSAL and found["stop_reason"] == "refusal"
    world.scripts["masking"].says("bird is its name")
    found = world.post("/v1/completions", {"model": "masking", "prompt": "A blue", "max_tokens": 60}).json()
    assert found["choices"][0]["text"] == "[bird] is its name"


def test_two_keys_have_rules_of_their_own(world: World) -> None:
    world.scripts["free"].says("It flew.")
    assert ask(world, "chat", "free", "a bluebird", stream=False, key="anna") == (REFUSAL, "content_filter")
    assert ask(world, "chat", "free", "a bluebird", stream=False) == ("It flew.", "stop")


def test_a_response_in_the_background_is_stored_as_it_was_said(world: World) -> None:
    world.scripts["masking"].says("A bluebird, it is said.")
    body = {"model": "masking", "input": "Who?", "background": True, "stream": True}
    said, _ = read_stream(answer := world.post("/v1/responses", body), "responses")
    id = answer.events()[0]["response"]["id"]
    again = world.get(f"/v1/responses/{id}?stream=true&starting_after=2")
    assert said == "A [bird], it is said." and b"bluebird" not in again.body
    assert b"bluebird" not in world.get(f"/v1/responses/{id}").body
    world.scripts["masking"].says("More.")
    world.submitted.clear()
    world.post("/v1/responses", {"model": "masking", "input": "And?", "previous_response_id": id})
    assert "A [bird], it" in world.hosted["masking"].model.tokenizer.decode(world.submitted[-1].prompt)
    refused = world.post("/v1/responses", {"model": "strict", "input": "a bluebird"}).json()
    assert refused["output"][0]["content"] == [{"type": "refusal", "refusal": REFUSAL}]
    assert refused["status"] == "incomplete"


def test_a_batch_has_the_same_rules(world: World) -> None:
    lines = [
        {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": {"model": name, "messages": talk}}
        for name, talk in (
            ("strict", [{"role": "user", "content": "a bluebird"}]),
            ("masking", [{"role": "user", "content": "what flies?"}]),
        )
    ]
    world.scripts["masking"].says("A bluebird.")
    mark = "b0undary"
    form = (
        f'--{mark}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{mark}\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
        + "\n".join(map(json.dumps, lines))
        + f"\r\n--{mark}--\r\n"
    ).encode()
    headers = {
        "authorization": f"Bearer {world.keys['ben']}",
        "content-type": f"multipart/form-data; boundary={mark}",
    }
    file = world.server.post("/v1/files", form, headers=headers).json()["id"]
    batch = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    id = world.post("/v1/batches", batch).json()["id"]
    until = time.monotonic() + 30
    while (found := world.get(f"/v1/batches/{id}").json())["status"] != "completed":
        assert time.monotonic() < until and found["status"] not in ("failed", "expired"), found
        time.sleep(0.05)
    answers = world.get(f"/v1/files/{found['output_file_id']}/content").body.decode().splitlines()
    said = {one["custom_id"]: one["response"]["body"] for one in map(json.loads, answers)}
    assert read_whole(said["strict"], "chat") == (REFUSAL, "content_filter")
    assert read_whole(said["masking"], "chat") == ("A [bird].", "stop")
    assert any(one["request"] == id for one in world.decisions())


def test_what_is_only_read_has_rules_too(world: World) -> None:
    body = {"model": "strict", "input": ["nothing", "a bluebird"]}
    answer = world.post("/v1/embeddings", body)
    assert answer.status == 400
    assert answer.json()["error"]["code"] == "content_filter" and answer.json()["error"]["message"] == REFUSAL
    answer = world.post("/v1/rerank", {"model": "strict", "query": "x", "documents": ["a bluebird", "y"]})
    assert answer.status == 400
    world.submitted.clear()
    assert world.post("/v1/embeddings", {"model": "masking", "input": "my bluebird"}).status == 200
    assert world.hosted["masking"].model.tokenizer.decode(world.submitted[-1].prompt) == "my [bird]"


@pytest.mark.parametrize(
    ("answer", "seconds", "passes", "because"),
    [
        ("safe", 0.0, True, None),
        (" Safe\n", 0.0, True, None),
        ("unsafe\nS1", 0.0, False, None),
        ("unsafely put", 0.0, False, "an answer that is neither word"),
        ("<score>", 0.0, False, "an answer that is neither word"),
        ("safe", 1.0, False, "no answer in time"),
        (b"500", 0.0, False, "no answer that can be read"),
        (b"[[[", 0.0, False, "no answer that can be read"),
        (b'{"choices": []}', 0.0, False, "no answer that can be read"),
    ],
)
def test_a_guard_model_is_asked_and_its_silence_refuses(
    world: World, answer: Any, seconds: float, passes: bool, because: str | None
) -> None:
    world.judge.answer, world.judge.seconds = answer, seconds
    world.judge.asked.clear()
    world.scripts["judged"].says("Fine.")
    said, reason = ask(world, "chat", "judged", "How are you?", stream=False)
    assert (said, reason) == (("Fine.", "stop") if passes else (REFUSAL, "content_filter"))
    path, key, body = world.judge.asked[0]
    assert (path, key) == ("/v1/chat/completions", "Bearer guard-key") and body["model"] == "llama-guard"
    assert "How are you?" in body["messages"][0]["content"]
    if passes:
        assert world.judge.asked[1][2]["messages"][1] == {"role": "assistant", "content": "Fine."}
    else:
        assert world.decisions()[-1].get("because") == because


def test_a_stream_waits_for_the_guard_model(world: World) -> None:
    world.judge.answer, world.judge.seconds = "safe", 0.0
    world.scripts["judged"].says("Words " * 20)

    def turned() -> None:
        while len(world.judge.asked) < 1:
            time.sleep(0.002)
        world.judge.answer = "unsafe"

    world.judge.asked.clear()
    thread = threading.Thread(target=turned)
    thread.start()
    said, reason = ask(world, "chat", "judged", "Talk.", stream=True)
    thread.join()
    assert (said, reason) == (REFUSAL, "content_filter")


@pytest.mark.parametrize(("verdict", "said"), [("no", "Well."), ("Yes, it is", REFUSAL), ("what?", REFUSAL)])
def test_a_model_served_here_may_judge(world: World, verdict: str, said: str) -> None:
    world.scripts["strict"].says(verdict)
    world.scripts["free"].says("Well.")
    assert ask(world, "chat", "free", "How?", stream=False, key="judged-here")[0] == said


def test_a_guard_model_that_is_gone_lets_pass_where_the_policy_says_so(world: World) -> None:
    world.scripts["free"].says("Well.")
    assert ask(world, "chat", "free", "How?", stream=False, key="softly")[0] == "Well."
    last = world.decisions()[-1]
    assert (last["rule"], last["action"], last["because"]) == ("judged softly", "allow", "no answer that can be read")


def test_decisions_are_counted(world: World) -> None:
    ask(world, "chat", "strict", "a bluebird", stream=False)
    told = world.get("/metrics").body.decode()
    line = 'ownlm_guard_decisions_total{action="refuse",model_name="strict",rule="birds"}'
    assert line in told and 'finished_reason="content_filter"' in told


def test_a_decision_that_cannot_be_noted_answers_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("ownlm.server.guard.log.os.fsync", full)
        body = {"model": "strict", "messages": [{"role": "user", "content": "a bluebird"}]}
        assert world.post("/v1/chat/completions", body).status == 503
    assert ask(world, "chat", "strict", "a bluebird", stream=False)[0] == REFUSAL
