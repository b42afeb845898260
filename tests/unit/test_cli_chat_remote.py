"""`ownlm chat --url`: the chat of a server's model, of a good one and of bad ones."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ownlm.cli import remote_server
from ownlm.cli.main import run
from ownlm.opened import load
from ownlm.server.app import make_app
from ownlm.server.hosted import Hosted
from ownlm.server.service import Service
from scripted_server import EVENTS, GONE, ScriptedServer, delta, end, event, http, models, said, scripted
from serving import serving, wide_copy

Chat = Callable[..., Any]


@pytest.fixture
def chat(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Chat:
    for name in remote_server.KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def asked(*arguments: object, stdin: str = "") -> SimpleNamespace:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = run(["chat", *map(str, arguments)])
        done = capsys.readouterr()
        assert [record for record in caplog.records if record.name == "asyncio"] == []
        return SimpleNamespace(code=code, out=done.out, err=done.err)

    return asked


def ask(chat: Chat, server: ScriptedServer, *more: object, **options: Any) -> Any:
    return chat("--url", server.url, "m", "-p", "Who?", *more, **options)


def test_our_own_server_says_what_the_model_says(chat: Chat, workshop: Path, tmp_path: Path) -> None:
    model = load(wide_copy(workshop / "chat", tmp_path / "wide"))
    text = model.chat([{"role": "user", "content": "Who are you?"}], temperature=0).text
    with serving(make_app(Service(hosted={"tiny": Hosted("tiny", model)}))) as server:
        done = chat("--url", server.url, "--temperature", 0, "-p", "-", stdin="Who are you?\n")
        assert (done.code, done.out) == (0, text + "\n")
        assert done.err.endswith("ended by itself)\n")
        # Neither torch nor a model is loaded for it.
        code = "import sys; from ownlm.cli.main import run; run(sys.argv[1:]); sys.exit('torch' in sys.modules)"
        command = ["chat", "--url", server.url + "/v1/", "tiny", "-p", "Who are you?", "--temperature", "0"]
        alone = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
        assert (alone.returncode, alone.stdout) == (0, text + "\n")
        wrong = chat("--url", server.url, "other", "-p", "Who?")
        assert wrong.code == 2 and wrong.err.count("\n") == 1 and "no model 'other' here" in wrong.err
        wrong = chat("--url", server.url.replace("http", "https"), "-p", "Who?")
        assert wrong.code == 2 and "does not speak TLS" in wrong.err


def test_history_and_given_settings_are_sent_and_nothing_else(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-env")
    answers = models("m"), said("I", " am", tokens=7), said("Fine.")
    with scripted(*answers) as server:
        options = ["--url", server.url, "--system", "be brief", "--top-p", 0.5, "--seed", 3]
        done = chat(*options, stdin="Who?\n/temp 0\n/max 9\nAnd?\n")
    assert (done.code, done.out) == (0, "I am\nFine.\n")
    assert done.err.startswith("(7 tokens, ") and "(1 token, " in done.err
    (listed, _, _), (first, headers, body), (_, _, second) = server.asked
    assert (listed, first) == ("GET /v1/models", "POST /v1/chat/completions")
    assert headers["authorization"] == "Bearer sk-env"
    system, who = {"role": "system", "content": "be brief"}, {"role": "user", "content": "Who?"}
    fixed = {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "top_p": 0.5, "seed": 3}
    assert body == {**fixed, "messages": [system, who]}
    turns = [system, who, {"role": "assistant", "content": "I am"}, {"role": "user", "content": "And?"}]
    assert second == {**fixed, "messages": turns, "temperature": 0.0, "max_tokens": 9}


def test_the_one_model_that_chats_is_taken_and_several_are_listed(chat: Chat) -> None:
    both = {"data": [{"id": "reader", "capabilities": {"chat": False}}, {"id": "writer", "capabilities": None}]}
    with scripted(http(200, both), said("Hi.")) as server:
        assert chat("--url", server.url, "-p", "Who?").out == "Hi.\n" and server.asked[1][2]["model"] == "writer"
    for found, words in ((models("a", "b"), "choose one with --model: a, b"), (models(), "serves no model")):
        with scripted(found) as server:
            done = chat("--url", server.url, "-p", "Who?")
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1) and words in done.err


def test_another_of_its_models_and_commands_that_need_one_here(chat: Chat) -> None:
    with scripted(models("a"), models("a", "b"), said("Hi."), models("a", "b")) as server:
        done = chat("--url", server.url, "--model", "a", stdin="/help\n/temp\n/max\n/model b\nWho?\n/model c\n")
    assert done.out == "Hi.\n" and server.asked[2][2]["model"] == "b"
    assert "/regen" in done.err and "/where" not in done.err and "/temp 0.7 sets one" in done.err
    assert done.code == 2 and done.err.endswith("serves no c; it has a, b\n")
    for line, words in (("/where", "ownlm chat FOLDER"), ("/probs", "ownlm chat MODEL --show-probs")):
        with scripted(models("m")) as server:
            done = chat("--url", server.url, "m", stdin=f"{line}\n")
        assert done.code == 2 and words in done.err and done.err.count("\n") == 1


WRONG = {"error": {"message": "it is\nso.", "code": None}}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http(401, WRONG), "asks for a key (it is so); give one with --key, or"),
        (http(403, {"detail": "no"}), "does not allow this (no)"),
        (http(404, WRONG), "says: it is so; `ownlm chat --url"),
        (http(404, b"<html>"), "has no /chat/completions (404); check --url"),
        (http(400, {"error": {"message": "much", "code": "context_length_exceeded"}}), "too long for the model (much)"),
        (http(422, {"error": "bad top_p"}), "status 422 (bad top_p); leave out the setting"),
        (http(429, WRONG, retry_after="7"), "is busy (it is so); try again in 7 s"),
        (http(503, b"", retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), "is not ready; try again a little later"),
        (http(400, b"[" * 50_000), "refuses the question with status 400; leave out"),
        (http(500, b"<html>" * 50_000), "failed with status 500; its log says more"),
        (http(302, b"", location="http://elsewhere/v1"), "sends us on to http://elsewhere/v1; give that as --url"),
        (http(200, b"<html>Hello</html>"), "/chat/completions answers text/html, not as an OpenAI-compatible API does"),
        (http(200, {"choices": []}), "answers application/json"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "ends the connection without an answer"),
        (b"", "ends the connection without an answer"),
        ([EVENTS, b"data: <html>\n\n"], "not as an OpenAI-compatible API does"),
        ([EVENTS, b"data: " + b"[" * 50_000 + b"\n\n"], "not as an OpenAI-compatible API does"),
        ([EVENTS, b"data: " + b"x" * 2_000_000], "not as an OpenAI-compatible API does"),
    ],
)
def test_a_bad_answer_is_one_line_with_the_fix(chat: Chat, answer: Any, words: str) -> None:
    with scripted(answer) as server:
        done = ask(chat, server)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("ownlm: ") and done.err.count("\n") == 1 and words in done.err, done.err


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ([], "broke off in the middle of the answer; ask again"),
        ([event({"error": {"message": "the engine\nfell"}})], "failed in the middle of the answer (the engine fell)"),
        ([GONE], "has long said nothing"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_stream_that_is_cut_keeps_what_came_on_stdout(
    chat: Chat, rest: list[Any], words: str, chunked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_server, "SILENT_SECONDS", 0.3)
    head = EVENTS.replace(b"connection: close", b"transfer-encoding: chunked") if chunked else EVENTS

    def sent(part: Any) -> Any:
        return b"%x\r\n%s\r\n" % (len(part), part) if chunked and isinstance(part, bytes) else part

    with scripted([head, *map(sent, [delta(content="half"), *rest])]) as server:
        done = ask(chat, server)
    assert (done.code, done.out) == (2, "half\n")
    assert done.err.count("\n") == 1 and words in done.err, done.err


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "nothing answers at http://127.0.0.1:1/v1"),
        ("localhost:8000", "write it such as http://127.0.0.1:8000"),
        ("http://[", "is no address"),
        ("http://[::1]x", "is no address"),
        ("http://host:port", "is no address"),
        ("http://me:secret@127.0.0.1", "give a key with --key"),
    ],
)
def test_an_address_that_will_not_do(chat: Chat, url: str, words: str) -> None:
    for question in (["-p", "Who?"], []):  # also before a conversation begins
        done = chat("--url", url, "m", *question)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1) and words in done.err, done.err


def test_mistaken_options_are_one_line(chat: Chat) -> None:
    for arguments, words in (
        ([], "no model is named"),
        (["m", "--key", "k"], "name it with --url"),
        (["--url", "http://127.0.0.1:1", "--show-probs"], "leave out --url"),
        (["--url", "http://127.0.0.1:1", "--key", "a\nb"], "the key holds characters"),
        (["m", "--history", "/nowhere/at/all"], "cannot keep questions in /nowhere/at/all"),
    ):
        done = chat(*arguments)
        assert (done.code, done.out, done.err.count("\n")) == (2, "", 1) and words in done.err


def test_a_server_without_a_list_of_models_chats_with_a_named_one(chat: Chat) -> None:
    with scripted(http(404, WRONG), said("Hi.")) as server:
        assert chat("--url", server.url, "m", stdin="Who?\n").out == "Hi.\n"
    with scripted(http(401, WRONG)) as server:
        done = chat("--url", server.url, "m", "--key", "k", stdin="Who?\n")
    assert done.code == 2 and "refuses the key (it is so); check --key" in done.err


def test_text_arrives_as_it_was_however_it_was_cut(chat: Chat) -> None:
    text = "é\u2028\x85line\x0b 漢"
    raw = (
        b": a comment\r\n\r\n"
        + delta(role="assistant", content=None)
        + delta(content=text)
        + event({"choices": [{"delta": [], "index": 0}, 5]})
    )
    raw += event({"usage": {"completion_tokens": 3}}) + b"data: [DONE]\n\n"  # and no reason why it ended
    with scripted([EVENTS, *(bytes([byte]) for byte in raw)]) as server:
        done = ask(chat, server, "--json")
    answer = json.loads(done.out)
    assert (answer["answer"], answer["tokens"], answer["finish_reason"]) == (text, 3, "stop")


def test_half_a_character_of_the_servers_is_told_back_to_it(chat: Chat) -> None:
    half = delta(content="HALF").replace(b"HALF", b"\\ud800")
    with scripted(models("m"), [EVENTS, half, end()], said("Hi.")) as server:
        done = chat("--url", server.url, stdin="Who?\nAnd?\n")
    assert (done.code, done.out) == (0, "\\ud800\nHi.\n")
    assert server.asked[2][2]["messages"][1]["content"] == "\ud800"


def test_thoughts_stay_out_of_the_answer_and_of_the_history(chat: Chat) -> None:
    answer = [EVENTS, delta(reasoning_content="Well"), delta(reasoning=", yes."), delta(content="Yes."), end("length")]
    with scripted(models("m"), answer, said("No.")) as server:
        done = chat("--url", server.url, "--json", stdin="Is it?\nAnd?\n")
    first = json.loads(done.out.splitlines()[0])
    assert (first["answer"], first["reasoning_content"], first["finish_reason"]) == ("Yes.", "Well, yes.", "length")
    assert "Well" not in json.dumps(server.asked[2][2])
    with scripted(answer) as server:
        done = ask(chat, server)
    assert done.out == "Yes.\n" and "Well" not in done.err and "the server allows no more" in done.err


@pytest.mark.parametrize("before", [[], [EVENTS], [EVENTS, delta(content="half")]])
def test_ctrl_c_closes_the_connection_whatever_it_waits_for(before: list[bytes]) -> None:
    with scripted([*before, GONE]) as server:
        command = [sys.executable, "-m", "ownlm.cli", "chat", "--url", server.url, "m", "-p", "Who?"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if len(before) == 2:
            assert process.stdout.read(4) == "half"
        while not server.asked:
            assert process.poll() is None
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert server.left.wait(10)
    assert (process.returncode, out) == (130, "\n" if len(before) == 2 else "")
    assert err.startswith("(") and err.count("\n") == 1 and "stopped by Ctrl-C" in err


def test_a_proxy_stands_before_other_machines_alone(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "carrier-pigeon://127.0.0.1:1")
    done = chat("--url", "http://example.invalid", "m", "-p", "Who?")
    assert done.code == 2 and done.err.count("\n") == 1 and "a proxy that the environment names" in done.err
    with scripted(said("Hi.")) as server:
        assert ask(chat, server).out == "Hi.\n"


def test_an_address_and_who_could_read_its_key() -> None:
    at = remote_server.RemoteServer.at
    assert at("http://example.org", "k", {}).exposes_key and at("http://example.org", None, {"OWNLM_API_KEY": "k"}).key
    for url in ("https://example.org", "http://localhost:1", "http://[::1]:8000"):
        assert not at(url, "k", {}).exposes_key
    assert at(" https://h/api/v1/chat/completions ", None, {}).url == "https://h/api/v1"
    assert "k" not in repr(at("http://h", "sk", {}))
