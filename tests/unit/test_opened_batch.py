"""Prompts from a file: one line in, one line out, whatever a line holds and wherever a run was stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ownlm.engine import EngineConfig
from ownlm.errors import OwnlmError
from ownlm.opened import Model, load
from ownlm.opened.batch import generate_file

ASKED: dict[str, Any] = {"max_tokens": 6, "temperature": 1.0, "seed": 3, "ignore_eos": True}


@pytest.fixture(scope="module")
def model(workshop: Path) -> Model:
    return load(workshop / "chat", engine=EngineConfig(max_sequences=4, cache_tokens=1024))


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def asking(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_line_is_answered_in_its_place(model: Model, tmp_path: Path) -> None:
    source = write(
        tmp_path / "in.jsonl",
        {"prompt": "The cat"},
        {
            "id": "b",
            "messages": [{"role": "user", "content": "Who are you?"}],
            "temperature": 0,
            "max_tokens": 40,
            "ignore_eos": False,
        },
        {"prompt": "The dog", "max_tokens": 1, "seed": 9, "logprobs": 1},
        {"prompt": "Yes or no:", "choices": ["yes", "no"]},
        {"prompt": "The cat", "n": 2, "stop": ["zz"], "logit_bias": {"5": -100}},
        {"prompt": "The cat"},
    )
    out = tmp_path / "out.jsonl"
    done = generate_file(model, source, out, asked=ASKED)
    records = read(out)
    assert (done.total, done.done, done.errors) == (6, 6, 0)
    assert [record["line"] for record in records] == [1, 2, 3, 4, 5, 6]
    for place in (0, 5):
        assert records[place]["text"] == model.generate("The cat", **ASKED | {"seed": 3 + place}).text
    assert (records[1]["id"], records[1]["text"]) == ("b", "A small model.")
    assert len(records[2]["token_ids"]) == 1 and "token_ids" not in records[0]
    assert records[3]["text"] in ("yes", "no")
    assert len(records[4]["choices"]) == 2 and records[4]["usage"]["completion_tokens"] == 12
    assert not (tmp_path / "out.jsonl.state.json").exists() and model.engine.idle


BAD = [
    ("", "is empty"),
    ("{", "is no JSON"),
    ("[1]", "is no JSON object but a list"),
    ("[" * 100_000, "is no JSON"),
    ('{"prompt": "a", "max_tokens": 1' + "0" * 5000 + "}", "is no JSON"),
    ("{}", "either"),
    ({"prompt": "a", "messages": []}, "either"),
    ({"prompt": 5}, "prompt must be a text"),
    ({"prompt": ""}, "the prompt is empty"),
    ({"prompt": "cat " * 500}, "context"),
    ({"messages": "hi"}, "messages must be a list"),
    ({"messages": [5]}, "messages must be a list"),
    ({"messages": [{"content": 3}]}, ""),
    ({"messages": [{"role": "user"}]}, ""),
    ({"messages": []}, ""),
    ({"prompt": "a", "temperature": -1}, "temperature must be"),
    ('{"prompt": "a", "temperature": NaN}', "NaN is no finite number"),
    ('{"prompt": "a", "id": 1e400}', "1e400 is no finite number"),
    ({"prompt": "a", "tempreature": 1}, "unknown sampling setting 'tempreature'"),
    ({"prompt": "a", "seed": "x"}, "seed must be"),
    ({"prompt": "a", "regex": "("}, "regular expression"),
    ({"prompt": "a", "grammar": {}}, "cannot set grammar"),
    ({"prompt": "a", "stop": [5]}, "stop must be"),
    ({"prompt": "a", "logit_bias": {"99999": 1}}, "vocabulary ends"),
]


def test_a_bad_line_has_its_reason_and_stops_nothing(model: Model, tmp_path: Path) -> None:
    good = {"prompt": "The \ud800 cat", "id": "\ud800"}
    source = write(tmp_path / "in.jsonl", *(line for bad, _ in BAD for line in (bad, good)))
    done = generate_file(model, source, tmp_path / "out.jsonl", asked={"max_tokens": 1})
    records = read(tmp_path / "out.jsonl")
    assert len(records) == 2 * len(BAD) and done.errors == len(BAD)
    for record, (_, words) in zip(records[::2], BAD, strict=True):
        assert words in record["error"] and "\n" not in record["error"], record
    assert all(record["id"] == "\ud800" and "text" in record for record in records[1::2])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (bytes(range(256)) * 99, "holds no lines such as"),
        (b"Once upon a time\nthere was\n", "is no JSON"),
        (b"\n\n\n", "the first is empty"),
    ],
)
def test_an_input_that_is_none(model: Model, tmp_path: Path, content: bytes | None, words: str) -> None:
    source = tmp_path / "in.jsonl"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(OwnlmError, match=words) as caught:
        generate_file(model, source, tmp_path / "out.jsonl", asked={})
    assert "\n" not in str(caught.value) and not list(tmp_path.glob("out*"))


def test_outputs_that_are_refused(model: Model, tmp_path: Path) -> None:
    source, out = write(tmp_path / "in.jsonl", {"prompt": "a"}), tmp_path / "out.jsonl"
    for wrong, words in ((tmp_path / "no" / "out", "lies in none"), (tmp_path, "is a folder"), (source, "the input")):
        with pytest.raises(OwnlmError, match=words):
            generate_file(model, source, wrong, asked={})
    with pytest.raises(OwnlmError, match="temperature must be"):
        generate_file(model, source, out, asked={"temperature": -1})
    assert source.read_text() == '{"prompt": "a"}\n' and not out.exists()
    generate_file(model, source, out, asked=ASKED)
    with pytest.raises(OwnlmError, match="exists already"):
        generate_file(model, source, out, asked=ASKED)
    first = out.read_bytes()
    generate_file(model, source, out, asked=ASKED | {"max_tokens": 1}, force=True)
    assert (tmp_path / "out.jsonl.old").read_bytes() == first != out.read_bytes()


class Stopped(Exception):
    pass


@pytest.mark.parametrize("force", [False, True])
def test_a_stopped_run_goes_on_and_only_over_the_same(model: Model, tmp_path: Path, force: bool) -> None:
    source = write(tmp_path / "in.jsonl", *({"prompt": f"The cat {number}"} for number in range(30)))
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    generate_file(model, source, whole, asked=ASKED)

    def stop(progress: Any) -> None:
        if progress.done == 11:
            raise Stopped

    with pytest.raises(Stopped):
        generate_file(model, source, out, asked=ASKED, force=force, progress=stop)
    assert model.engine.idle and len(read(out)) == 11
    with out.open("ab") as file:
        file.write(b'{"line": 12, "te')
    torn = out.read_bytes()
    for changed, name in (({"seed": 4}, "settings"), ({}, "input")):
        if name == "input":
            lines = source.read_text()
            source.write_text(lines + '{"prompt": "more"}\n')
        with pytest.raises(OwnlmError, match=f"begun with another {name}"):
            generate_file(model, source, out, asked=ASKED | changed)
        assert out.read_bytes() == torn
    source.write_text(lines)
    done = generate_file(model, source, out, asked=ASKED, force=force)
    assert out.read_bytes() == whole.read_bytes() and (done.before, done.total) == (11, 30)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "whole.jsonl"]


def test_what_is_answered_early_waits_for_its_turn_in_bounds(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ownlm.opened.batch.MOST_WAITING", 10)
    lines = [{"prompt": "a", "max_tokens": 40}, *({"prompt": "b", "max_tokens": 1} for _ in range(40))]
    source = write(tmp_path / "in.jsonl", *lines)
    most = 0
    add = model.engine.add

    def count(request: Any) -> Any:
        nonlocal most
        most = max(most, len(model.engine._of) + 1)
        return add(request)

    monkeypatch.setattr(model.engine, "add", count)
    generate_file(model, source, tmp_path / "out.jsonl", asked={"ignore_eos": True})
    assert [record["line"] for record in read(tmp_path / "out.jsonl")] == list(range(1, 42)) and most <= 8


# In float32, whatever is fastest here: then a batch changes no token.
RUN = """
import sys
from pathlib import Path
from ownlm.opened import load
from ownlm.opened.batch import generate_file
model, source, out = sys.argv[1:]
asked = {"max_tokens": 20, "seed": 1, "ignore_eos": True}
generate_file(load(model, dtype="float32"), Path(source), Path(out), asked=asked)
"""


def test_killed_in_the_middle_it_goes_on_as_if_it_had_not_been(workshop: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", *({"prompt": f"The cat {number}"} for number in range(120)))
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"

    def start(to: Path) -> subprocess.Popen[bytes]:
        arguments = [str(path) for path in (workshop / "base", source, to)]
        return subprocess.Popen([sys.executable, "-c", RUN, *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"})

    process = start(out)
    while process.poll() is None and not (out.exists() and out.read_bytes().count(b"\n") > 5):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL and out.read_bytes().count(b"\n") < 120
    for path in (out, whole):
        assert start(path).wait() == 0
    assert out.read_bytes() == whole.read_bytes() and len(read(out)) == 120


def test_a_file_of_another_encoding_is_refused(model: Model, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "a"}\n{"prompt": "b"}\n', encoding="utf-16")
    with pytest.raises(OwnlmError, match="holds no lines such as"):
        generate_file(model, source, tmp_path / "out.jsonl", asked=ASKED)


def test_an_output_that_is_no_plain_file_is_refused(model: Model, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", {"prompt": "a"})
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for out in (tmp_path / "link", Path("/dev/null")):
        with pytest.raises(OwnlmError, match="is a link or a device"):
            generate_file(model, source, out, asked=ASKED, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "link"]


def test_a_state_that_is_no_text_is_anothers(model: Model, tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", {"prompt": "a"})
    (tmp_path / "out.jsonl").touch()
    (tmp_path / "out.jsonl.state.json").write_bytes(b"\xff\xfe")
    with pytest.raises(OwnlmError, match="begun with another version"):
        generate_file(model, source, tmp_path / "out.jsonl", asked=ASKED)
