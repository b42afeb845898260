"""The conversation, without a terminal: turns, commands, what goes where, how it ends."""

import importlib.util
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ownlm.cli.chat_answer import ProbabilityWriter
from ownlm.cli.chat_commands import COMMANDS
from ownlm.cli.chat_loop import run_chat
from ownlm.cli.chat_session import ChatOptions
from ownlm.errors import OwnlmError

FAKE = Path(__file__).parents[1] / "e2e" / "fake_chat.py"


def load_fake():
    spec = importlib.util.spec_from_file_location("fake_chat", FAKE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fake = load_fake()


def chat(text="", answers=("answer to {question}",), *, model=None, **options):
    model = model or fake.FakeModel(answers)
    stdout, stderr = io.StringIO(), io.StringIO()
    code = run_chat(model, options=ChatOptions(**options), stdin=io.StringIO(text), stdout=stdout, stderr=stderr)
    return SimpleNamespace(code=code, out=stdout.getvalue(), err=stderr.getvalue(), calls=model.calls)


def contents(call):
    return [message["content"] for message in call[0]]


def test_one_prompt_gives_the_answer_alone_on_stdout():
    result = chat(prompt="what?")
    assert (result.code, result.out) == (0, "answer to what?\n")
    assert result.err == "(5 tokens, 12.5 tokens/s, ended by itself)\n"
    assert chat("line one\nline two\n", prompt="-").out == "answer to line one\nline two\n"
    assert chat(prompt="/help").out == "answer to /help\n", "a prompt of -p is never a command"


def test_each_piped_line_is_a_turn_of_one_conversation():
    result = chat("one\n\ntwo\n", system="be brief", seed=3, max_tokens=9)
    assert result.out == "answer to one\nanswer to two\n"
    assert contents(result.calls[1]) == ["be brief", "one", "answer to one", "two"]
    settings = result.calls[1][1]
    assert (settings["seed"], settings["max_tokens"], settings["min_p"]) == (3, 9, 0.05)


@pytest.mark.parametrize("options", [{}, {"prompt": ""}, {"prompt": "-"}])
def test_nothing_asked_is_an_error(options):
    result = chat(" \n", **options)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("ownlm: ")
    assert result.err.count("\n") == 1


def test_json_is_one_object_a_line_in_ascii():
    result = chat("é\x1b\ntwo\n", json=True, show_probs=True, check_answer=lambda question, answer: "5")
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [record["question"] for record in records] == ["é\x1b", "two"]
    assert records[0]["answer"] == "answer to é\x1b"
    assert records[0]["correction"] == "5"
    assert records[0]["pieces"][0]["probability"] == 0.99
    assert result.out.isascii()
    assert "\x1b" not in result.out
    assert result.err == ""


def test_a_false_statement_is_shown():
    result = chat("1+1\n2+2\n", check_answer=lambda question, answer: "Python gives 2" if question == "1+1" else None)
    assert result.err.count("Python gives 2\n") == 1
    assert "Python" not in result.out


def test_control_characters_stay_out_of_a_pipe_too():
    result = chat("x\n", answers=["a\x1b[2Jb"])
    assert result.out == "a␛[2Jb\n"


def test_undo_edit_regen_clear_and_system():
    result = chat("one\ntwo\n/undo\n/regen\n/edit three\n/system calm\nfour\n/clear\n/system off\nfive\n", seed=7)
    assert result.code == 0, result.err
    asked = [contents(call) for call in result.calls]
    assert asked[2] == ["one"]
    assert asked[3] == ["three"]
    assert asked[4] == ["calm", "three", "answer to three", "four"]
    assert asked[5] == ["five"]
    assert [call[1]["seed"] for call in result.calls[:3]] == [7, 7, 8], "asked again, a seed must vary"


def test_temp_max_and_probs_change_what_follows():
    result = chat("/temp 0\n/max 5\n/probs\nhi\n")
    assert (result.calls[0][1]["temperature"], result.calls[0][1]["max_tokens"]) == (0.0, 5)
    assert result.out == "answ{.99}er{.30} to{.05} hi{.99}\n"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/hepl", "did you mean /help?"),
        ("/xyzzy", "/help lists the commands"),
        ("/temp hot", "'hot' is no number from 0 to 5"),
        ("/temp nan", "'nan' is no number"),
        ("/max 0", "from 1 to"),
        ("/max 1.5", "from 1 to"),
        ("/undo", "nothing to take back"),
        ("/regen", "nothing to take back"),
        ("/where", "not at hand"),
        ("/save", "no file is named"),
        ("/load nowhere.jsonl", "cannot read nowhere.jsonl"),
        ("/edit", "nobody is there to edit"),
        ("/probs maybe", "/probs on or /probs off"),
        ("/model other", "ownlm chat other"),
    ],
)
def test_a_mistaken_command_says_what_to_do(line, said):
    result = chat(line + "\n")
    assert result.code == 2
    assert said in result.err
    assert result.err.startswith("ownlm: ")


def test_help_names_every_command_and_two_slashes_are_text():
    result = chat("/help\n//etc is what?\n/quit\nnot asked\n")
    assert all(f"/{name}" in result.err for name in COMMANDS)
    assert [contents(call) for call in result.calls] == [["/etc is what?"]]


def test_where_shows_file_and_line_and_that_a_match_is_no_cause():
    matches = [SimpleNamespace(text="a list\n  of", source="python", path="json/decoder.py", line=12, place="")]
    result = chat("x\n/where\n", where=lambda answer: matches)
    assert '"a list of"' in result.err
    assert "python: json/decoder.py, line 12" in result.err
    assert "not a cause" in result.err
    assert "No longer stretch" in chat("x\n/where\n", where=lambda answer: []).err
    record = json.loads(chat("x\n/where\n", where=lambda answer: matches, json=True).out.splitlines()[1])
    assert record["matches"][0]["line"] == 12
    assert "no answer yet" in chat("/where\n", where=lambda answer: []).err


def test_a_conversation_is_saved_loaded_and_exported(tmp_path):
    saved, exported = tmp_path / "talk.jsonl", tmp_path / "talk.md"
    result = chat(f"one\n/save {saved}\n/export {exported}\n", system="calm")
    assert result.code == 0, result.err
    roles = [message["role"] for message in json.loads(saved.read_text())["messages"]]
    assert roles == ["system", "user", "assistant"]
    assert "## Answer\n\nanswer to one\n" in exported.read_text()
    again = chat(f"/load {saved}\ntwo\n")
    assert contents(again.calls[0]) == ["calm", "one", "answer to one", "two"]
    refused = chat(f"one\n/save {saved}\n")
    assert (refused.code, "exists and is kept" in refused.err) == (2, True)
    for wrong in ("[]", '{"messages": [{"role": "user", "content": "x"}]}', "{", '{"messages": 5}'):
        (tmp_path / "wrong").write_text(wrong)
        assert chat(f"/load {tmp_path / 'wrong'}\n").code == 2


def test_another_model_goes_on_with_the_conversation():
    other = fake.FakeModel(["other"])
    result = chat("one\n/model other\ntwo\n", load_model=lambda name: other)
    assert result.out == "answer to one\nother\n"
    assert contents(other.calls[0]) == ["one", "answer to one", "two"]


def test_what_was_left_out_and_why_it_ended_is_said():
    assert "oldest 2 messages were not read" in chat("x\n", model=fake.FakeModel(["hi"], dropped=2)).err
    assert "the answer is empty" in chat("x\n", answers=[""]).err


def test_a_model_that_fails_ends_the_pipe_with_what_it_said():
    class Failing(fake.FakeModel):
        def stream_chat(self, messages, **settings):
            yield SimpleNamespace(text="half", token_ids=[1], probability=None)
            raise OwnlmError("the weights are gone; run it again")

    class Stream:
        def __init__(self, pieces):
            self.pieces, self.cancelled = pieces, False

        def __iter__(self):
            return iter(self.pieces)

        def cancel(self):
            self.cancelled = True

    model = Failing()
    stream = Stream(Failing.stream_chat(model, []))
    model.stream_chat = lambda messages, **settings: stream
    result = chat("x\n", model=model)
    assert (result.code, result.out) == (2, "half\n")
    assert result.err == "ownlm: the weights are gone; run it again\n"
    assert stream.cancelled


def test_input_that_is_no_text_is_refused():
    raw = io.BytesIO(b"\xff\xfe\x00")
    for options, errors in itertools.product((ChatOptions(), ChatOptions(prompt="-")), ("strict", "surrogateescape")):
        raw.seek(0)
        stdin, stderr = io.TextIOWrapper(raw, encoding="utf-8", errors=errors), io.StringIO()
        code = run_chat(fake.FakeModel(), options=options, stdin=stdin, stdout=io.StringIO(), stderr=stderr)
        assert (code, "is not utf-8 text" in stderr.getvalue()) == (2, True)
        stdin.detach()


def test_probabilities_are_told_by_more_than_colour():
    writer = ProbabilityWriter(lambda: 80, color=True)
    pieces = [("sure", 0.9), (" maybe", 0.3), (" hardly", 0.01), (" unknown", None)]
    out = "".join(writer.push(SimpleNamespace(text=t, token_ids=[], probability=p)) for t, p in pieces)
    out += writer.finish()
    assert out == "sure \x1b[33;4mmaybe\x1b[0m \x1b[31;1;4mhardly\x1b[0m unknown\n"


def program(setup, **kwargs):
    return subprocess.Popen(
        [sys.executable, str(FAKE), json.dumps(setup)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **kwargs,
    )


def test_a_reader_who_leaves_ends_it_quietly():
    process = program({"options": {"prompt": "x"}, "delay": 0.01, "answers": ["line\n" * 100]})
    assert process.stdout.readline() == b"line\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(10) == 141


def test_ctrl_c_stops_a_piped_answer_with_its_code():
    process = program({"options": {"prompt": "x"}, "delay": 0.02, "answers": ["word " * 500]})
    assert process.stdout.read(4) == b"word"
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert out.endswith(b"\n")
    assert b"stopped by Ctrl-C" in err


def test_ctrl_c_after_the_last_token_is_no_stop():
    def press(question, answer):
        os.kill(os.getpid(), signal.SIGINT)

    result = chat("one\ntwo\n", check_answer=press)
    assert (result.code, result.out) == (0, "answer to one\nanswer to two\n")
    assert result.err.count("ended by itself") == 2
