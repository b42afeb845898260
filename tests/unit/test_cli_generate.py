"""`ownlm generate` with a real tiny model: forms, several answers, files of prompts, and mistakes in one line."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ownlm.cli.generate import CUT
from ownlm.cli.main import run
from ownlm.opened import Model

AGE = {"type": "integer", "minimum": 0, "maximum": 9}
SCHEMA = {"type": "object", "properties": {"age": AGE}, "required": ["age"], "additionalProperties": False}
speculate = Model.speculate


@pytest.fixture
def ask(workshop: Path, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def asked(*arguments: object, prompt: str | None = "The cat") -> tuple[int, str, str]:
        status = run(["generate", str(workshop / "base"), *([] if prompt is None else [prompt]), *map(str, arguments)])
        done = capsys.readouterr()
        return status, done.out, done.err

    return asked


def test_an_answer_in_a_form_stands_alone(ask, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    lark, gbnf, schema = tmp_path / "a.lark", tmp_path / "a.gbnf", tmp_path / "a.json"
    lark.write_text('start: "{\\"age\\": " /[0-9]/ "}"')
    gbnf.write_text('root ::= "{\\"age\\": " [0-9] "}"')
    schema.write_text(json.dumps(SCHEMA))
    for form in (
        ("--json-schema", schema),
        ("--json-schema", json.dumps(SCHEMA)),
        ("--regex", r'\{"age": [0-9]\}'),
        ("--choice", '{"age": 1}', "--choice", '{"age": 2}'),
        ("--grammar", lark),
        ("--grammar", gbnf),
    ):
        status, out, err = ask(*form, "--seed", 1, "--max-tokens", 60, "--temperature", 1)
        assert (status, err) == (0, "") and list(json.loads(out)) == ["age"], form
    status, out, err = ask("--json-schema", schema, "--max-tokens", 2, "--echo")
    assert (status, err) == (0, CUT) and out.startswith("The cat{")


def test_what_was_cut_is_told_where_it_is_not_whole(ask) -> None:  # type: ignore[no-untyped-def]
    # Any number of letters is whole, however many there are room for.
    assert ask("--regex", "[a-z]+", "--max-tokens", 3, "--seed", 1)[2] == ""
    # A stop string may cut too.
    assert ask("--json-schema", json.dumps(SCHEMA), "--stop", '"age"', "--seed", 1)[2] == CUT
    answer = json.loads(ask("--json-schema", json.dumps(SCHEMA), "--max-tokens", 2, "--json")[1])
    assert (answer["complete"], answer["finish_reason"]) == (False, "length")


def test_settings_reach_the_model(ask) -> None:  # type: ignore[no-untyped-def]
    settings = ("--seed", 1, "--max-tokens", 4, "--ignore-eos", "--json")
    plain = json.loads(ask(*settings)[1])
    status, out, err = ask(*settings, "--logprobs", 2, "--n", 2, "--echo", "--speculate", "lookup")
    first, second = map(json.loads, out.splitlines())
    assert (status, err) == (0, "") and first["text"] == "The cat" + plain["text"] != second["text"]
    assert [len(top) for top in first["top_logprobs"]] == [2] * 4 and first["text_offsets"][0] == 7
    assert {"drafted_tokens", "accepted_tokens"} <= first["usage"].keys()
    banned = plain["token_ids"][0]
    status, out, _ = ask(*settings, "--temperature", 0, "--logit-bias", f"{banned}=-100")
    assert status == 0 and banned not in json.loads(out)["token_ids"]
    rare = ("--typical-p", 0.9, "--xtc-probability", 0.5, "--dry-multiplier", 1, "--frequency-penalty", 0.5)
    assert ask(*settings, *rare, "--presence-penalty", 1, "--min-tokens", 2)[0] == 0
    assert ask(*settings, "--mirostat", 2)[0] == 0


def test_a_text_from_stdin_is_gone_on_with_and_not_repeated(ask, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    settings = ("--seed", 1, "--max-tokens", 4, "--ignore-eos")
    _, whole, _ = ask(*settings)
    for prompt, more in (("-", ()), (None, ("--prompt", "-")), ("-", ("--echo",))):
        monkeypatch.setattr("sys.stdin", io.StringIO("The cat\n"))
        status, out, err = ask(*settings, *more, prompt=prompt)
        assert (status, err, ("" if more == ("--echo",) else "The cat") + out) == (0, "", whole)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"The \xff"), encoding="utf-8"))
    status, out, err = ask(prompt="-")
    assert (status, out, err) == (2, "", "ownlm: standard input is not utf-8 text; convert it first\n")


def test_a_reader_who_leaves_ends_it_quietly(workshop: Path) -> None:
    command = [sys.executable, "-m", "ownlm.cli", "generate", workshop / "base", "-", "--ignore-eos"]
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "--max-tokens", "60"], **piped) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(b"The cat\n")
        process.stdin.close()
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(60) == 141


def test_several_answers_have_headers(ask) -> None:  # type: ignore[no-untyped-def]
    status, out, err = ask("--n", 2, "--seed", 1, "--max-tokens", 3)
    assert (status, err) == (0, "")
    assert out.startswith("--- 1 of 2 ---\nThe cat") and "\n--- 2 of 2 ---\nThe cat" in out


def test_a_model_guesses_for_another(ask, workshop: Path) -> None:  # type: ignore[no-untyped-def]
    settings = ("--temperature", 0, "--max-tokens", 8, "--ignore-eos")
    assert ask(*settings, "--speculate", workshop / "base") == ask(*settings)


def test_a_file_of_prompts(ask, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"prompt": "The cat"}\n\n{"prompt": "The dog", "max_tokens": 1}\n')
    files = ("--input", source, "--output", out)
    status, stdout, err = ask(*files, "--seed", 5, "--max-tokens", 3, prompt=None)
    assert (status, stdout) == (0, "")
    assert err == f"3 lines in {out}, 1 of them could not be answered and say why\n"
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert ["text" in record for record in records] == [True, False, True] and "error" in records[1]
    status, _, err = ask(*files, prompt=None)
    assert status == 2 and "--force" in err
    assert ask(*files, "--force", prompt=None)[0] == 0 and (tmp_path / "out.jsonl.old").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--temperature", "-1"], "temperature must be 0"),
        (["--temperature", "nan"], "temperature must be"),
        (["--top-p", "2"], "top_p must be"),
        (["--n", "0"], "n must be between 1"),
        (["--logprobs", "99"], "logprobs must be between 0 and 20"),
        (["--min-tokens", "9", "--max-tokens", "3"], "min_tokens must be at most"),
        (["--logit-bias", "5"], "ID=VALUE"),
        (["--logit-bias", "999999=1"], "the vocabulary ends at"),
        (["--regex", "("], "the regular expression cannot be used"),
        (["--regex", "a", "--choice", "b"], "give one of them"),
        (["--json-schema", "none.json"], "no such file: none.json"),
        (["--json-schema", "words.txt"], "words.txt is no JSON"),
        (["--json-schema", "bytes"], "bytes is no UTF-8"),
        (["--json-schema", "{"], "--json-schema is no JSON"),
        (["--json-schema", "list.json"], "is no JSON schema but a list"),
        (["--json-schema", "."], "cannot read ."),
        (["--json-schema", '{"type": "thing"}'], "the JSON schema cannot be used"),
        (["--grammar", "words.txt"], "ends in .lark or .gbnf"),
        (["--grammar", "bad.lark"], "the Lark grammar cannot be used"),
        (["--speculate", "none"], "no such model: none"),
        (["--input", "words.txt", "--output", "out"], "without a PROMPT"),
    ],
)
def test_mistakes_are_one_line(ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments, words) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("some words")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00\xd8")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "bad.lark").write_text("start: nothing")
    status, out, err = ask(*arguments)
    assert (status, out) == (2, "") and err.startswith("ownlm: ") and err.count("\n") == 1 and words in err, err


@pytest.mark.parametrize(
    ("source", "out", "words"),
    [
        ("none", "out", "no such file: none"),
        ("empty", "out", "empty is empty"),
        ("bytes", "out", "holds no lines such as"),
        ("good", "no/out", "lies in none that exists"),
        ("good", ".", "is a folder"),
        ("good", "good", "the input itself"),
        (".", "out", "is no plain file"),
        ("good", None, "go together"),
    ],
)
def test_files_that_will_not_do(  # type: ignore[no-untyped-def]
    ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source, out, words
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    (tmp_path / "good").write_text('{"prompt": "a"}\n')
    status, _, err = ask("--input", source, *([] if out is None else ["--output", out]), prompt=None)
    assert status == 2 and err.startswith("ownlm: ") and err.count("\n") == 1 and words in err, err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bytes", "empty", "good"]


def test_prompts_that_will_not_do(ask) -> None:  # type: ignore[no-untyped-def]
    for prompt, words in ((None, "nothing to go on from"), ("", "prompt is empty"), ("cat " * 999, "context")):
        status, out, err = ask(prompt=prompt)
        assert (status, out) == (2, "") and err.count("\n") == 1 and words in err, err


def test_a_chat_that_guesses_says_the_same_also_with_another_model(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guessing: list[tuple[Model, object]] = []
    monkeypatch.setattr(Model, "speculate", lambda model, by: guessing.append((model, by)) or speculate(model, by))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"Who are you?\n/model {workshop / 'chat'}\nWho are you?\n"))
    assert run(["chat", str(workshop / "chat"), "--speculate", "lookup", "--temperature", "0", "--min-p", "0"]) == 0
    assert capsys.readouterr().out.startswith("A small model.\n")
    assert [by for _, by in guessing] == ["lookup"] * 2 and guessing[0][0] is not guessing[1][0]


def test_ctrl_c_says_what_becomes_of_the_work(ask, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ownlm.cli.open_model.open_model", stopped)
    status, _, err = ask()
    assert status == 130 and "the same command goes on" in err
