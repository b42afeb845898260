"""Artefact folders: whole or not there, never overwritten, proven on reading; and the record of a run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ownlm.artefact import (
    Events,
    content_hash,
    folder_lock,
    read_card,
    read_events,
    verify_artefact,
    write_artefact,
    write_atomically,
)
from ownlm.errors import DamagedError, OwnlmError


def make(folder: Path, text: str = "text", *, force: bool = False) -> Path:
    with write_artefact(folder, "corpus", how={"seed": 1}, inputs={"a": "b"}, force=force) as draft:
        (draft.path / "sub").mkdir()
        (draft.path / "sub" / "data.txt").write_text(text)
        (draft.path / "README.md").write_text("prose")
        draft.figures["documents"] = 3
    return folder


def test_written_and_read_back(tmp_path: Path) -> None:
    card = verify_artefact(make(tmp_path / "deep" / "a"), "corpus")
    assert (card.kind, card.how, card.inputs, card.figures["documents"]) == ("corpus", {"seed": 1}, {"a": "b"}, 3)
    assert sorted(card.files) == ["README.md", "sub/data.txt"] and card.content == content_hash(card.files)
    assert card.files["sub/data.txt"]["bytes"] == 4
    assert str(tmp_path) not in (tmp_path / "deep" / "a" / "card.json").read_text()


def test_equal_content_has_an_equal_hash(tmp_path: Path) -> None:
    one, two, three = make(tmp_path / "1"), make(tmp_path / "2"), make(tmp_path / "3", "other")
    assert read_card(one).content == read_card(two).content != read_card(three).content


def test_never_overwritten(tmp_path: Path) -> None:
    make(tmp_path / "a", "first")
    with pytest.raises(OwnlmError, match=r"exists already.*--force"):
        make(tmp_path / "a", "second")
    assert (tmp_path / "a" / "sub" / "data.txt").read_text() == "first"


def test_force_moves_aside_and_loses_nothing(tmp_path: Path) -> None:
    for text in ("1", "2", "3"):
        make(tmp_path / "a", text, force=True)
    assert {path.name: (path / "sub" / "data.txt").read_text() for path in tmp_path.iterdir()} == {
        "a": "3",
        "a.old": "1",
        "a.old2": "2",
    }


def test_an_error_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    make(tmp_path / "a", "first")
    with (
        pytest.raises(RuntimeError),
        write_artefact(tmp_path / "a", "corpus", how={}, force=True) as draft,
    ):
        (draft.path / "half").write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a" / "sub" / "data.txt").read_text() == "first"


def test_a_half_written_file_of_a_killed_process_goes_with_the_next_write(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    dead, living = tmp_path / f".run.json.{ended.pid}.tmp", tmp_path / f".run.json.{os.getppid()}.tmp"
    for path in (dead, living):
        path.write_text("half")
    write_atomically(tmp_path / "run.json", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living.name, "run.json"])


def test_drafts_of_the_dead_are_removed_and_of_the_living_kept(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, living = tmp_path / f".a.{ended.pid}.draft", tmp_path / f".a.{os.getppid()}.draft"
    other = tmp_path / f".b.{ended.pid}.draft"
    for folder in (dead, living, other):
        folder.mkdir()
    make(tmp_path / "a")
    assert not dead.exists() and living.exists() and other.exists()


def test_what_is_not_listed_and_the_readme_may_change(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a" / "README.md").write_text("edited")
    (tmp_path / "a" / "notes.txt").write_text("mine")
    verify_artefact(tmp_path / "a")
    (tmp_path / "a" / "README.md").unlink()
    verify_artefact(tmp_path / "a")


def test_a_changed_file_is_named(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a" / "sub" / "data.txt").write_text("tExt")
    with pytest.raises(DamagedError, match=r"data.txt is damaged"):
        verify_artefact(tmp_path / "a")
    read_card(tmp_path / "a")


def test_wrong_folders_are_one_line(tmp_path: Path) -> None:
    make(tmp_path / "a")
    for folder, kind, message in (
        (tmp_path / "none", None, "no such folder"),
        (tmp_path, None, "no finished ownlm artefact"),
        (tmp_path / "a", "tokens", "is a corpus, but a tokens is wanted"),
    ):
        with pytest.raises(OwnlmError, match=message):
            read_card(folder, kind)


@pytest.mark.parametrize("name", ["", ".", "..", "x/..", "a\nb", "a\x1b[31m", "a\0b", "x" * 300, "x" * 250])
def test_names_that_nothing_can_be_written_under(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OwnlmError, match=r"end it in a name|control characters|choose a shorter name"):
        make(Path(name), force=True)
    assert not list(tmp_path.iterdir())


def test_a_card_of_other_types(tmp_path: Path) -> None:
    card = json.loads((make(tmp_path / "a") / "card.json").read_text())
    for change in ({"created": 7}, {"kind": []}, {"inputs": None}, {"figures": []}):
        (tmp_path / "a" / "card.json").write_text(json.dumps(card | change))
        with pytest.raises(DamagedError, match=r"card\.json is damaged"):
            read_card(tmp_path / "a")


@pytest.mark.parametrize("content", ["", "[]", "{}", "nonsense", '{"kind": 1}', "\x00"])
def test_a_card_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(DamagedError, match=r"card\.json is damaged"):
        read_card(tmp_path)


def test_atomic_writes_keep_the_old_file_on_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, "old")
    with pytest.raises(OwnlmError, match=r"cannot write"):
        write_atomically(tmp_path / "none" / "a.txt", "new")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new" and [each.name for each in tmp_path.iterdir()] == ["a.txt"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ownlm.artefact import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(OwnlmError, match=r"another ownlm process is writing"), folder_lock(tmp_path):
            pass
        other.kill()
        other.wait()
    # However it ends, the kernel lets go.
    with folder_lock(tmp_path):
        pass


def test_events(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert list(read_events(path)) == []
    events = Events(path)
    for step in range(4):
        record = events.write("step", step, loss=0.5, text="naïve\n")
    assert list(record) == ["v", "event", "step", "time", "loss", "text"] and record["v"] == 1
    events.forget_after(2)
    assert [event["step"] for event in read_events(path)] == [0, 1, 2]
    with path.open("a") as file:
        file.write('{"cut": ')
    assert [event["step"] for event in read_events(path)] == [0, 1, 2]
    Events(path).write("step", 3)
    assert [event["step"] for event in read_events(path)] == [0, 1, 2, 3]
    assert all(json.loads(line) for line in path.read_text().splitlines())
