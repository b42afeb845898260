"""Whatever lies in a model's folder: `ownlm show` and `convert` end well, or in one line that says what to do."""

import copy
import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ownlm.cli import terminal
from ownlm.cli.main import run

FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "card.json")
JUNK: list[Any] = [
    *(None, True, -1, 0, 1, 7, 0.5, 1e308, float("nan"), 2**31, 10**30, 10**400),
    *("", "x", "7", "\ud800", "a\nb", "\x1b[31m", "x" * 5000),
    *([], {}, [{}], [[]], [None], ["x"], {"": {}}, {"type": "BPE"}, {"rope_type": "yarn", "factor": 2.0}),
]


@pytest.fixture(scope="module")
def chat(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished model of ours, without what training left in it."""
    folder = tmp_path_factory.mktemp("hostile") / "chat"
    shutil.copytree(workshop / "chat", folder, ignore=shutil.ignore_patterns("checkpoints", "snapshots"))
    return folder


@pytest.fixture
def model(chat: Path, tmp_path: Path) -> Path:
    """A copy to spoil, without the card that would find any change first."""
    return shutil.copytree(chat, tmp_path / "model", ignore=shutil.ignore_patterns("card.json"))


def ownlm(*arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run([str(argument) for argument in arguments])
    return status, out.getvalue(), err.getvalue()


def refused(*arguments: object) -> str:
    status, out, err = ownlm(*arguments)
    assert (status, out) == (2, "") and err.startswith("ownlm: ") and err.count("\n") == 1, err
    assert "report it" not in err and "Traceback" not in err
    return err


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")


@pytest.mark.parametrize("name", [*FILES[:4], "model.safetensors", "chat_template.jinja"])
def test_a_folder_where_a_file_should_be(model: Path, name: str) -> None:
    (model / name).unlink()
    (model / name).mkdir()
    assert name in refused("show", model)


@pytest.mark.parametrize("name", [*FILES, "model.safetensors", "chat_template.jinja"])
def test_a_file_that_may_not_be_read(chat: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Root may read everything, so the system's refusal is played."""
    opened = Path.open

    def forbid(path: Path, *more: Any, **named: Any) -> Any:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *more, **named)

    monkeypatch.setattr(Path, "open", forbid)
    assert f"{name}: Permission denied; check the name and who may read it" in refused("show", chat)


@pytest.mark.parametrize(
    ("file", "fields", "said"),
    [
        ("config.json", {"layer_types": [{}]}, "layer_types must be a list of names"),
        ("config.json", {"torch_dtype": 7}, "torch_dtype must be a name such as float32, got 7"),
        ("config.json", {"eos_token_id": "</s>"}, "eos_token_id must be the id of a token"),
        ("config.json", {"bos_token_id": -1}, "bos_token_id must be the id of a token"),
        ("config.json", {"bos_token_id": True}, "bos_token_id must be the id of a token"),
        ("config.json", {"eos_token_id": [0, 384]}, "eos_token_id is 384, and the model has 384 tokens"),
        ("generation_config.json", {"eos_token_id": [1, 10**9]}, "eos_token_id is 1000000000"),
        ("generation_config.json", {"eos_token_id": [1, None]}, "eos_token_id must be the id of a token"),
        ("generation_config.json", {"temperature": float("nan")}, "NaN"),
        ("config.json", {"rope_theta": float("inf")}, "Infinity"),
    ],
)
def test_fields_that_would_pass_unseen(model: Path, file: str, fields: dict[str, Any], said: str) -> None:
    change(model / file, **fields)
    message = refused("show", model)
    assert said in message and "; " in message


def test_special_ids_that_are_right(model: Path) -> None:
    change(model / "config.json", eos_token_id=[309, 311], bos_token_id=None, pad_token_id=-1)
    change(model / "generation_config.json", eos_token_id=383, bos_token_id=0)
    assert ownlm("show", model)[0] == 0


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("tokenizer.json", 256_000_001),
        ("tokenizer_config.json", 32_000_001),
        ("generation_config.json", 32_000_001),
        ("config.json", 32_000_001),
        ("chat_template.jinja", 4_000_001),
    ],
)
def test_files_of_no_end(model: Path, name: str, size: int) -> None:
    with (model / name).open("r+b") as file:
        file.truncate(size)  # takes no room on the disk
    assert f"{name} has {size:,} bytes, and no such file has more" in refused("show", model)


def test_a_card_without_its_readme(chat: Path, tmp_path: Path) -> None:
    shutil.copytree(chat, tmp_path / "model", ignore=shutil.ignore_patterns("README.md"))
    status, out, _ = ownlm("show", tmp_path / "model")
    assert status == 0 and "not stated" in out


@pytest.mark.parametrize("arguments", [("show", ""), ("convert", "", "new"), ("generate", "", "text")])
def test_an_empty_model_is_not_the_current_folder(
    chat: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(chat)
    assert "MODEL is empty; name a model folder" in refused(*arguments)


ESCAPE = "\x1b]0;owned\x07\x9b31m\u202e\n"


def test_no_name_has_power_over_the_terminal(chat: Path, tmp_path: Path) -> None:
    model = shutil.copytree(chat, tmp_path / f"mo{ESCAPE}del", ignore=shutil.ignore_patterns("card.json"))
    (model / "README.md").write_text(f"---\nlicense: {ESCAPE}\n---\n")
    target = tmp_path / f"in{ESCAPE}" / "mine.gguf"
    target.parent.mkdir()
    texts = [ownlm("show", model)[1], ownlm("show", model, "--tensors")[1], ownlm("convert", model, target)[1]]
    texts += [refused("show", f"no{ESCAPE}"), refused("convert", model, f"no{ESCAPE}"), refused(f"no{ESCAPE}")]
    texts.append(refused("convert", model, target))
    change(model / "config.json", model_type=ESCAPE)
    texts.append(refused("show", model))
    assert all(texts) and not any(set("\x1b\x07\x9b\u202e") & set(text) for text in texts)
    assert "␛]0;owned␇<9B>31m<202E>␊" in texts[0]


def test_json_holds_names_as_they_are(model: Path) -> None:
    strange = model.rename(model.with_name("mo\x1b\x9bdel"))
    out = ownlm("show", strange, "--json")[1]
    assert json.loads(out)["name"] == strange.name and out.isascii()


def test_force_says_where_what_was_there_is_now(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_text("mine")
    out = ownlm("convert", model, tmp_path / "mine.gguf", "--force")[1]
    assert f"what was there is now at {tmp_path / 'mine.gguf.old'}" in out
    out = ownlm("convert", model, tmp_path / "mine.gguf", "--force", "--json")[1]
    assert json.loads(out)["moved"] == str(tmp_path / "mine.gguf.old2")


def test_lines_are_wrapped_at_words(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    monkeypatch.setattr(terminal, "terminal_columns", lambda stream: 50)
    for arguments in (("show", "model"), ("convert", "model", "x.gguf"), ("starter", "list"), ("show", "none")):
        _, out, err = ownlm(*arguments)
        lines = (out + err).splitlines()
        assert len(lines) > 1 and all(len(line) <= 50 or len(line.split()) == 1 for line in lines), lines


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="announced: this system has no /dev/full")
@pytest.mark.parametrize("arguments", [["starter", "list"], ["--help"]])
def test_an_output_that_is_full(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "ownlm.cli", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert done.stderr.startswith("ownlm: cannot write the output: No space left on device; send it to another")
        assert subprocess.run(command, stdout=full, stderr=full).returncode == 2


@pytest.mark.skipif(os.name == "nt", reason="announced: Windows has no shell that closes streams so")
@pytest.mark.parametrize(("command", "status"), [("starter list", 0), ("starter remove none", 2)])
def test_streams_that_the_caller_has_closed(command: str, status: int) -> None:
    line = f"{sys.executable} -m ownlm.cli {command} <&- >&- 2>&-"
    assert subprocess.run(line, shell=True).returncode == status


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in a JSON value: of a long list or table, its first and last entries."""
    entries = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else [])
    entries = entries if len(entries) <= 40 else [*entries[:3], *entries[-3:]]
    return [found for key, inner in entries for found in ((*place, key), *places(inner, (*place, key)))]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_value_of_any_kind_is_more_than_one_line(chat: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(FILES))
    content = json.loads((chat / name).read_text(encoding="utf-8"))
    for _ in range(data.draw(st.integers(1, 2))):
        *sections, last = data.draw(st.sampled_from(places(content) or [(name,)]))
        section = content
        for key in sections:
            section = section[key]
        section[last] = copy.deepcopy(data.draw(st.sampled_from(JUNK)))
    with TemporaryDirectory() as folder:
        spoiled, target = Path(folder) / "model", Path(folder) / data.draw(st.sampled_from(["x.gguf", "x"]))
        ignored = () if name == "card.json" else ("card.json",)
        shutil.copytree(chat, spoiled, ignore=shutil.ignore_patterns(*ignored))
        (spoiled / name).write_text(json.dumps(content), encoding="utf-8")
        shown = ownlm("show", spoiled)
        for status, _, err in (shown, *([ownlm("convert", spoiled, target)] if shown[0] == 0 else [])):
            assert status in (0, 2) and err.count("\n") == (status == 2) and len(err) < 1500, err
            assert "report it" not in err
        left = {path.name for path in Path(folder).iterdir()} - {"model"}
        assert left <= {target.name}
