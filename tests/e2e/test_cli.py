"""`ownlm` as a user types it: help at once, mistakes in one line, and a whole journey on a tiny text."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import no_connections
from ownlm.cli.commands import COMMANDS
from ownlm.errors import OwnlmError
from ownlm.journey import quickstart
from tiny_models import WORDS

SMALL = [
    "--no-chat",
    *("--steps", "3", "--depth", "1"),
    *(
        word
        for value in (
            "tokenizer.vocab_size=320",
            "pretrain.context=64",
            "finetune.context=64",
            "pretrain.rows=2",
            "finetune.rows=2",
            "pretrain.samples=1",
            "finetune.samples=1",
            "conversations=40",
        )
        for word in ("--set", value)
    ),
]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for number in range(30):
        words = [WORDS[(number * 7 + place * place + place * number) % len(WORDS)] for place in range(160)]
        sentences = [" ".join(words[start : start + 8]).capitalize() + "." for start in range(0, 160, 8)]
        (folder / f"{number}.txt").write_text(" ".join(sentences) + "\n")
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return no_connections.environment(tmp_path_factory.mktemp("site"))


def ownlm(*arguments: object, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "ownlm.cli", *map(str, arguments)]
    env = environment or {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, timeout=120)


def in_process(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The same without a process of its own, which takes seconds to import torch."""
    from ownlm.cli.main import run

    status = run([str(argument) for argument in arguments])
    done = capsys.readouterr()
    return status, done.out, done.err


def one_line(err: str, *words: str) -> None:
    assert err.startswith("ownlm: ") and err.count("\n") == 1, err
    assert "Traceback" not in err and all(word in err for word in words), err


@pytest.mark.skipif(sys.platform == "win32", reason="announced: Windows has no signals between threads")
def test_ctrl_c_where_python_drops_it_comes_again() -> None:
    """As in a callback of the import system: what cannot leave there is raised a moment later."""
    script = """
import sys, time, weakref
from ownlm.cli import main
class Thing: pass
def work(arguments):
    def drop(reference): raise KeyboardInterrupt
    thing = Thing()
    reference = weakref.ref(thing, drop)
    del thing
    time.sleep(20)
main._run = work
main.main(["chat"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=15)
    assert done.returncode == 130
    one_line(done.stderr, "stopped")


def test_a_full_memory_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr("ownlm.cli.main._run", lambda arguments: torch.empty(1 << 50).numel())
    status, _, err = in_process(capsys, "doctor")
    assert status == 2
    one_line(err, "the memory is full")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["quickstart", "--help"], ["corpus", "build", "--help"], ["--version"]]
)
def test_help_needs_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from ownlm.cli.main import run\n"
        f"status = run({arguments!r}); heavy = {{'torch', 'numpy', 'tokenizers', 'pyarrow', 'pydantic'}}\n"
        "sys.stderr.write(' '.join(sorted(heavy & sys.modules.keys()))); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_help_says_where_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        status, out, err = in_process(capsys, *arguments)
        assert status == 0 and err == "" and "ownlm quickstart" in out
        assert all(f"  {command} " in out for command in COMMANDS)
        assert all(len(line) <= 80 for line in out.splitlines())
    status, out, _ = in_process(capsys, "corpus", "--help")
    assert status == 0 and "Usage: ownlm corpus COMMAND" in out and "  build " in out and "quickstart" not in out


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    commands = {(name,): command for name, command in COMMANDS.items()}
    commands |= {
        (name, *below): inner for name, command in COMMANDS.items() for (*below, inner) in command.below.items()
    }
    for names, command in commands.items():
        status, out, err = in_process(capsys, *names, "--help")
        assert (status, err) == (0, ""), names
        assert "--empty-" not in out and "default: ()" not in out
        if command.function:
            assert f"Example: ownlm {' '.join(names)} " in " ".join(out.split()), out


def test_help_loads_nothing_that_takes_time() -> None:
    """Under 0.3 s on a slow machine: a clock would measure what else runs there, so the modules are counted."""
    code = (
        "import sys; from ownlm.cli.main import run; run(['--help'])\n"
        "sys.stderr.write(' '.join(sorted({'cyclopts', 'rich', 'attrs', 'asyncio'} & sys.modules.keys())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["quickstrat"], ["quickstrat"]),
        (["quickstart", "--minuets", "3"], ["--minuets", "quickstart --help"]),
        (["quickstart", "--minutes", "many"], ["many"]),
        (["quickstart", "--minutes", "2", "--steps", "3"], ["--minutes and --steps"]),
        (["quickstart", "--minutes", "-1"], ["minutes must be more than 0"]),
        (["quickstart", "--steps", "0"], ["steps"]),
        (["quickstart", "--depth", "0", "--steps", "3"], ["depth must be at least 1"]),
        (["quickstart", "--seed", "99999999999999999999", "--steps", "3"], ["below 2**32"]),
        (["quickstart", "--set", "pretrain.rowz=1"], ["unknown key pretrain.rowz", "did you mean rows?"]),
        (["quickstart", "--set", "pretrain"], ["--set takes name=value"]),
        (["quickstart", "--recipe", "none.yaml"], ["no such recipe: none.yaml"]),
        (["pretrain", "none.yaml"], ["no such recipe: none.yaml"]),
        (["generate", "none", "text"], ["no such model: none"]),
        (["generate", ".", "text"], ["holds no model"]),
        (["tokenizer", "encode", "none", "text"], ["none"]),
        (["corpus", "show", "none"], ["no such folder: none"]),
        (["generate"], ["--help"]),
        (["generate", "none", os.fsdecode(b"caf\xe9")], ["'caf\\udce9' is not UTF-8 text"]),
        (["quickstart", "--text", os.fsdecode(b"caf\xe9")], ["'caf\\udce9' is not UTF-8 text", "rename the file"]),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = in_process(capsys, *arguments)
    assert status == 2, err
    one_line(err, *words)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert left == [], "a refused command leaves nothing behind"


def test_no_traceback_from_a_real_process() -> None:
    done = ownlm("frobnicate")
    assert done.returncode == 2 and done.stdout == ""
    one_line(done.stderr, "frobnicate")


@pytest.mark.parametrize("kind", ["no such", "empty", "binary"])
def test_texts_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    folder = tmp_path / "text"
    if kind != "no such":
        folder.mkdir()
    if kind == "binary":
        (folder / "a.txt").write_bytes(bytes(range(256)) * 9)
        (folder / "b.png").write_bytes(b"\x89PNG")
    status, _, err = in_process(capsys, "quickstart", "--text", folder, "--out", tmp_path / "out", *SMALL)
    assert status == 2
    one_line(err, str(folder), "check the spelling" if kind == "no such" else "no text to learn from")
    assert not (tmp_path / "out" / "corpus").exists()


def test_a_question_too_long_to_be_asked_is_refused_before_pretraining(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, asked = tmp_path / "out", "ask=['" + "why " * 80 + "']"
    status, _, err = in_process(capsys, "quickstart", "--text", text, "--out", out, *SMALL, "--set", asked)
    assert status == 2
    one_line(err, "ask: 'why why", "the model's context is 64")
    assert not (out / "base").exists()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


MODELS = ("base/model.safetensors", "chat/model.safetensors")


@pytest.fixture(scope="module")
def made(text: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole journey in a process that may connect to nothing."""
    out = tmp_path_factory.mktemp("made") / "run"
    done = ownlm("quickstart", "--text", text, "--out", out, *SMALL, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CONNECTED" not in done.stderr
    for stage in range(1, 7):
        assert f"{stage}/6" in done.stdout
    return out


def test_the_whole_journey(made: Path) -> None:
    assert {"corpus", "tokenizer", "tokens", "conversations", "base", "chat", "report.html", "summary.json"} <= {
        path.name for path in made.iterdir()
    }
    assert "<svg" in (made / "report.html").read_text(encoding="utf-8")
    summary = json.loads((made / "summary.json").read_text(encoding="utf-8"))
    assert summary["training"]["steps"] == 3 and summary["training"]["skipped_steps"] == 0
    from ownlm.artefact import verify_artefact

    for folder in ("corpus", "tokenizer", "tokens", "conversations", "base", "chat"):
        verify_artefact(made / folder)
    private = [path for path in made.rglob("card.json") if str(made) in path.read_text(encoding="utf-8")]
    assert private == [], "a card names no folder of this machine"


def test_a_finished_run_ends_at_once_and_says_how_to_begin_anew(
    made: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file() and path.name != ".lock"}
    for arguments in (["--no-chat"], ["--text", text, *SMALL]):
        status, _, err = in_process(capsys, "quickstart", "--out", made, *arguments)
        assert status == 0, err
        assert f"--out {made}-2" in err
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize("other", [["--steps", "4"], ["--seed", "1"], ["--set", "pretrain.rows=3"]])
def test_other_options_on_a_finished_run_are_refused(
    made: Path, capsys: pytest.CaptureFixture[str], other: list[str]
) -> None:
    models = [sha256(made / name) for name in MODELS]
    status, _, err = in_process(capsys, "quickstart", "--out", made, "--no-chat", *other)
    assert status == 2
    one_line(err, "begun with other options", f"--out {made}-2")
    assert models == [sha256(made / name) for name in MODELS]


def test_interrupted_then_gone_on_it_gives_the_same_bits(
    made: Path, text: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """The second run is stopped by Ctrl-C in the middle, which a first run was not."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "ownlm.cli", "quickstart", "--text", str(text), "--out", str(out), *SMALL]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        deadline = time.monotonic() + 60
        while not (out / "base" / "run.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    # 0 when it was faster than the signal.
    assert process.returncode in (0, 130), err
    assert "Traceback" not in err
    done = ownlm("quickstart", "--out", out, "--no-chat", environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [sha256(out / name) for name in MODELS] == [sha256(made / name) for name in MODELS]


def test_generate(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["--max-tokens", "5", "--seed", "1"]
    status, out, err = in_process(capsys, "generate", made, "The cat", "--json", *settings)
    assert (status, err) == (0, "")
    answer = json.loads(out)
    assert 1 <= len(answer["token_ids"]) <= 5 and answer["usage"]["completion_tokens"] == len(answer["token_ids"])
    status, plain, _ = in_process(capsys, "generate", made, "The cat", *settings)
    assert status == 0 and plain == "The cat" + answer["text"] + "\n"
    status, _, err = in_process(capsys, "generate", made, "The cat", "--temperature", "-1")
    assert status == 2
    one_line(err, "temperature must be 0 (greedy) or more")


def test_each_stage_is_a_command(made: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus, tokenizer, tokens = (tmp_path / name for name in ("corpus", "tokenizer", "tokens"))
    assert in_process(capsys, "corpus", "build", "--text", text, "--out", corpus)[0] == 0
    assert in_process(capsys, "tokenizer", "train", corpus, "--out", tokenizer, "--vocab-size", 320)[0] == 0
    assert in_process(capsys, "tokenizer", "train", corpus, "--out", tokenizer, "--vocab-size", 320)[0] == 2
    status, out, _ = in_process(capsys, "tokenizer", "encode", tokenizer, "The cat", "--json")
    assert status == 0 and all(isinstance(id, int) for id in json.loads(out))
    assert in_process(capsys, "corpus", "tokenize", corpus, tokenizer, "--out", tokens)[0] == 0
    # The stages are what quickstart calls: the same inputs give the same content.
    content = [json.loads((folder / "card.json").read_text())["content"] for folder in (corpus, tokenizer, tokens)]
    assert content == [
        json.loads((made / name / "card.json").read_text())["content"] for name in ("corpus", "tokenizer", "tokens")
    ]
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"tokens: {tokens}\ntokenizer: {tokenizer}\nout: {tmp_path / 'base'}\nmodel: {{depth: 1}}\n"
        "train: {steps: 2, context: 64, rows: 2, compile: never}\n"
    )
    assert in_process(capsys, "pretrain", recipe)[0] == 0
    assert (tmp_path / "base" / "model.safetensors").is_file()


def test_a_runs_folder_stands_for_its_parts(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command, part in (
        (["tokenizer", "encode", "{}", "The cat"], "tokenizer"),
        (["tokenizer", "show", "{}"], "tokenizer"),
        (["corpus", "show", "{}", "--json"], "corpus"),
    ):
        of_part, of_run = (
            in_process(capsys, *(word.replace("{}", str(folder)) for word in command)) for folder in (made / part, made)
        )
        assert of_run == of_part and of_run[0] == 0 and of_run[2] == ""
    assert in_process(capsys, "corpus", "tokenize", made, made, "--out", tmp_path / "tokens")[0] == 0
    # A run that is not so far yet, and a folder of something else, are told.
    (tmp_path / "begun").mkdir()
    for command in (["tokenizer", "show"], ["corpus", "show"]):
        status, _, err = in_process(capsys, *command, tmp_path / "begun")
        assert status == 2
        one_line(err, str(tmp_path / "begun"))


def test_the_printed_recipe_is_one_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, first, _ = in_process(capsys, "quickstart", "--show-recipe", "--depth", "2", "--seed", "5")
    assert status == 0
    (tmp_path / "mine.yaml").write_text(first)
    status, second, _ = in_process(capsys, "quickstart", "--show-recipe", "--recipe", tmp_path / "mine.yaml")
    assert status == 0 and first == second and "depth: 2" in first


def test_the_guard_against_connects_works(environment: dict[str, str]) -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == no_connections.REFUSED and "CONNECTED" in done.stderr


def test_a_run_is_never_put_among_somebodys_own_files(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("mine", encoding="utf-8")
    with pytest.raises(OwnlmError, match="holds other files"):
        quickstart(tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == "mine"


def test_an_out_that_is_a_file_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OwnlmError, match="name a folder as --out"):
            quickstart(out)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"
