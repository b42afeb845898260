"""Models of the hub, fetched where the user wrote hub:ORG/NAME, hub:ORG/NAME@REVISION or hub:ORG/NAME/FILE.gguf.

In:  such a name. Out: the snapshot's folder in the hub's own cache (other tools share it), or the GGUF file in it.
Only what ownlm reads is fetched: never a pickle, never code. Nothing is told to the hub beyond the request.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ownlm.errors import OwnlmError

PREFIX = "hub:"
# A model's licence and its author's words come along with what is read.
WANTED = ("*.safetensors", "*.json", "*.jinja", "tokenizer*", "vocab.*", "merges.txt", "README.md", "LICENSE*")
# Folders hold other programs' forms of the same weights, but also a model's further chat templates
# (additional_chat_templates/NAME.jinja) and how an embedding model pools (1_Pooling/config.json); `consolidated` is
# Mistral's second copy of its weights. A "*" spans folders.
UNWANTED = ("*/*.safetensors", "[!1]*/*.json", "tokenizer*/*", "consolidated*")
_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", re.ASCII)
_NO_TELEMETRY = "HF_HUB_DISABLE_TELEMETRY"


@dataclass(frozen=True, kw_only=True)
class HubName:
    """`file` is a .gguf in the repository, or "" for its safetensors."""

    repository: str
    revision: str | None = None
    file: str = ""

    def __str__(self) -> str:
        return f"{PREFIX}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def parse_hub_name(text: str) -> HubName:
    rest = text.removeprefix(PREFIX).strip("/")
    name, at, revision = rest.partition("@")
    file = ""
    if rest.lower().endswith(".gguf"):
        owner, _, tail = name.partition("/")
        if at:
            revision, _, file = revision.partition("/")
        else:
            tail, _, file = tail.partition("/")
            name = f"{owner}/{tail}"
    if not _NAME.fullmatch(name) or (at and not revision) or (rest.lower().endswith(".gguf") and not file):
        raise OwnlmError(
            f"{text} is no name of the hub; write hub:ORG/NAME, hub:ORG/NAME@REVISION or hub:ORG/NAME/FILE.gguf"
        )
    return HubName(repository=name, revision=revision or None, file=file)


def fetch_from_hub(text: str, *, fetch: bool = True) -> Path:
    """The folder, or with FILE.gguf the file, that `text` names; from the hub's cache where that is current, or without
    `fetch` alone.
    """
    wanted = parse_hub_name(text)
    hub = _import_hub()
    patterns = {"allow_patterns": [wanted.file]} if wanted.file else _patterns()
    if fetch:
        with _plain_errors(wanted):
            folder = Path(hub.snapshot_download(wanted.repository, revision=wanted.revision, **patterns))
    else:
        folder = _in_cache(hub, wanted, patterns)
    if wanted.file:
        if (folder / wanted.file).is_file():
            return folder / wanted.file
        raise OwnlmError(f"{wanted} has no file {wanted.file}; {_files_there(hub, wanted)}")
    if not any(folder.glob("*.safetensors")):
        instead = _files_there(hub, wanted)
        raise OwnlmError(f"{wanted} holds no safetensors, and pickled weights are never opened; {instead}")
    return folder


def _in_cache(hub: Any, wanted: HubName, patterns: dict[str, list[str]]) -> Path:
    try:
        folder = Path(
            hub.snapshot_download(wanted.repository, revision=wanted.revision, local_files_only=True, **patterns)
        )
    except Exception:  # of which the library has many
        folder = None
    if folder is None or not (folder / wanted.file).exists() or not (wanted.file or any(folder.glob("*.safetensors"))):
        raise OwnlmError(f"{wanted} is not on this machine, and is fetched only where you name it: ownlm show {wanted}")
    return folder


def _patterns() -> dict[str, list[str]]:
    return {"allow_patterns": list(WANTED), "ignore_patterns": list(UNWANTED)}


def _import_hub() -> Any:
    # Read when the library is imported, which another may have done: so the constant as well.
    os.environ[_NO_TELEMETRY] = "1"
    import huggingface_hub
    from huggingface_hub import constants

    constants.HF_HUB_DISABLE_TELEMETRY = True
    return huggingface_hub


@contextmanager
def _plain_errors(wanted: HubName) -> Iterator[None]:
    """The library's many exceptions as the few things that a user can do."""
    from huggingface_hub import errors

    page = f"huggingface.co/{wanted.repository}"
    login = "`hf auth login` (or set HF_TOKEN)"
    try:
        yield
    except errors.GatedRepoError:
        raise OwnlmError(f"{wanted} is gated: accept its terms at {page}, then {login} and try again") from None
    except errors.RepositoryNotFoundError:
        raise OwnlmError(
            f"the hub has no {wanted.repository}; check the spelling, or for a private one {login}"
        ) from None
    except errors.RevisionNotFoundError:
        raise OwnlmError(
            f"{wanted.repository} has no revision {wanted.revision}; its branches and tags are listed at {page}"
        ) from None
    except errors.HFValidationError as error:
        raise OwnlmError(f"{wanted} is no name of the hub ({_first_line(error)}); write hub:ORG/NAME") from None
    except Exception as error:  # whatever else a library of that size raises is the network's or the disk's
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise OwnlmError(
                f"cannot write the hub's cache: {error.strerror}; free some space, or set HF_HOME to another folder"
            ) from error
        why = "HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") else _first_line(error)
        raise OwnlmError(
            f"{wanted} is not on this machine and the hub cannot be reached ({why}); check the network, "
            "or name a folder or a .gguf file that is here"
        ) from error


def _files_there(hub: Any, wanted: HubName) -> str:
    """What the user can name instead."""
    with _plain_errors(wanted):
        names = hub.HfApi().list_repo_files(wanted.repository, revision=wanted.revision)
    found = [name for name in names if name.lower().endswith(".gguf")]
    if not found:
        return "it holds no .gguf file either; look for a converted copy of it"
    listed = ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
    return f"name one of its .gguf files as {wanted}/FILE.gguf: {listed}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().split("\n")[0].removeprefix("Got: ") or type(error).__name__)[:160]
