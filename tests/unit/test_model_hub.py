"""hub:ORG/NAME against a hub made here: what is asked of it, what comes back, and every way in which it fails."""

import errno
import os
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from ownlm.errors import OwnlmError
from ownlm.model.hub import UNWANTED, WANTED, HubName, fetch_from_hub, parse_hub_name
from ownlm.model.locate import locate


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hub:org/name", HubName(repository="org/name")),
        ("hub:gpt2", HubName(repository="gpt2")),
        ("hub:org/name@main", HubName(repository="org/name", revision="main")),
        ("hub:org/name@refs/pr/3", HubName(repository="org/name", revision="refs/pr/3")),
        ("hub:org/Na.me-1_b/file.gguf", HubName(repository="org/Na.me-1_b", file="file.gguf")),
        ("hub:org/name/sub/file.GGUF", HubName(repository="org/name", file="sub/file.GGUF")),
        ("hub:org/name@v1/file.gguf", HubName(repository="org/name", revision="v1", file="file.gguf")),
    ],
)
def test_names_of_the_hub(text: str, expected: HubName) -> None:
    assert parse_hub_name(text) == expected


@pytest.mark.parametrize(
    "text",
    ["hub:", "hub:/", "hub:a/b/c", "hub:a b/c", "hub:../x", "hub:a/b@", "hub:file.gguf", "hub:x/a.gguf"],
)
def test_what_is_no_name_is_never_asked_for(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(OwnlmError, match="hub:ORG/NAME") as told:
        fetch_from_hub(text)
    assert "\n" not in str(told.value)


class Hub:
    """Keeps the calls and fetches into a folder what the patterns allow."""

    def __init__(self, folder: Path, files: list[str], failure: Exception | None = None) -> None:
        self.folder, self.files, self.failure = folder, files, failure
        self.calls: list[dict[str, Any]] = []

    def snapshot_download(self, repo_id: str, **settings: Any) -> str:
        self.calls.append({"repo_id": repo_id, **settings})
        if self.failure:
            raise self.failure
        self.folder.mkdir(exist_ok=True)
        for name in self.files:
            wanted = any(fnmatch(name, pattern) for pattern in settings["allow_patterns"])
            if wanted and not any(fnmatch(name, pattern) for pattern in settings.get("ignore_patterns", ())):
                (self.folder / name).parent.mkdir(exist_ok=True)
                (self.folder / name).write_bytes(b"GGUF")
        return str(self.folder)

    def list_repo_files(self, repo_id: str, revision: str | None = None) -> list[str]:
        return self.files


@pytest.fixture
def make_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Hub]:
    def make(*files: str, failure: Exception | None = None) -> Hub:
        hub = Hub(tmp_path / "snapshot", list(files), failure)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
        monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY", raising=False)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        return hub

    return make


FILES = [
    *("config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json", "tokenizer.model"),
    *("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "chat_template.jinja", "README.md"),
    *("additional_chat_templates/tool_use.jinja", "1_Pooling/config.json", "modules.json"),
]
NEVER = [
    *("pytorch_model.bin", "model.pt", "weights.pth", "flax_model.msgpack", "tf_model.h5", "modeling_own.py"),
    *("original/consolidated.00.pth", "onnx/config.json", "onnx/model.onnx", "consolidated.safetensors", "a.gguf"),
    *("onnx/model.safetensors", "tokenizer/tokenizer.json", "tokenizer_2/vocab.txt", "sub/README.md", "sub/merges.txt"),
]


def test_only_what_is_read_comes(make_hub: Callable[..., Hub], tmp_path: Path) -> None:
    hub = make_hub(*FILES, *NEVER)
    assert locate("hub:org/name@v2") == tmp_path / "snapshot"
    assert {path.relative_to(hub.folder).as_posix() for path in hub.folder.rglob("*") if path.is_file()} == set(FILES)
    assert hub.calls == [
        {
            "repo_id": "org/name",
            "revision": "v2",
            "allow_patterns": list(WANTED),
            "ignore_patterns": list(UNWANTED),
        }
    ]


def test_one_gguf_of_many(make_hub: Callable[..., Hub], tmp_path: Path) -> None:
    hub = make_hub("a.Q4_0.gguf", "a.Q8_0.gguf", "config.json")
    assert locate("hub:org/name/a.Q4_0.gguf") == tmp_path / "snapshot" / "a.Q4_0.gguf"
    assert [path.name for path in hub.folder.iterdir()] == ["a.Q4_0.gguf"]
    with pytest.raises(OwnlmError, match=r"no file b\.gguf; name one .*: a\.Q4_0\.gguf, a\.Q8_0\.gguf"):
        locate("hub:org/name/b.gguf")


def test_no_telemetry(make_hub: Callable[..., Hub]) -> None:
    make_hub(*FILES)
    fetch_from_hub("hub:org/name")
    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1" and constants.HF_HUB_DISABLE_TELEMETRY is True


def test_pickles_alone_are_refused_with_what_else_there_is(make_hub: Callable[..., Hub]) -> None:
    make_hub("config.json", "pytorch_model.bin", "x.gguf")
    with pytest.raises(OwnlmError, match=r"holds no safetensors.*never opened; name one .*hub:org/name/FILE.gguf: x"):
        locate("hub:org/name")
    make_hub("config.json", "pytorch_model.bin")
    with pytest.raises(OwnlmError, match="look for a converted copy"):
        locate("hub:org/name")


def http(kind: type[Exception]) -> Exception:
    return kind("404 Client Error.\n\nlong advice", response=MagicMock(status_code=404))  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (http(errors.RepositoryNotFoundError), "the hub has no org/name; check the spelling"),
        (http(errors.GatedRepoError), "is gated: accept its terms at huggingface.co/org/name"),
        (http(errors.RevisionNotFoundError), "org/name has no revision v9"),
        (
            errors.LocalEntryNotFoundError("Got: ConnectError: no name\nlong"),
            "reached (ConnectError: no name)",
        ),
        (errors.OfflineModeIsEnabled("offline"), "cannot be reached (offline)"),
        (http(errors.HfHubHTTPError), "cannot be reached (404 Client Error.)"),
        (errors.HFValidationError("Repo id must be"), "is no name of the hub (Repo id must be)"),
        (ConnectionError(), "cannot be reached (ConnectionError)"),
        (OSError(errno.ENOSPC, "No space left on device"), "cannot write the hub's cache: No space left on device"),
    ],
)
def test_every_failure_is_one_line_with_a_fix(
    make_hub: Callable[..., Hub], failure: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_hub(failure=failure)
    with pytest.raises(OwnlmError) as told:
        locate("hub:org/name@v9")
    assert words in str(told.value) and "\n" not in str(told.value)


def test_switched_offline_is_named_as_the_reason(make_hub: Callable[..., Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    make_hub(failure=errors.LocalEntryNotFoundError("long words"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(OwnlmError, match="HF_HUB_OFFLINE is set"):
        locate("hub:org/name")
