"""Writes that are either whole or not there, also after a power cut."""

import contextlib
import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ownlm.errors import OwnlmError

# What a user can do about a disk that takes nothing.
OTHER_PLACE = "free some space, or name another place to write to"


@contextmanager
def disk_errors(path: Path, *, fix: str = OTHER_PLACE) -> Iterator[None]:
    """A full or read-only disk is the user's to mend: one line instead of a traceback."""
    try:
        yield
    except BrokenPipeError:
        # The reader of our output has left, which is no matter of the disk.
        raise
    except OSError as error:
        fix = "choose a shorter name" if error.errno == errno.ENAMETOOLONG else fix
        raise OwnlmError(f"cannot write {path}: {error.strerror or error}; {fix}") from error


def refuse_unfit_name(path: Path) -> None:
    """A name under which nothing new can be written, or that would garble every message about it."""
    if path.name in ("", ".."):
        raise OwnlmError(f"{path} names no new file or folder; end it in a name of its own")
    if "\0" in str(path) or any(character < " " or "\x7f" <= character < "\xa0" for character in path.name):
        raise OwnlmError(f"the name {path.name!r} holds control characters; choose one without")


def fsync_folder(folder: Path) -> None:
    """Make a rename inside `folder` durable. Windows cannot open folders: its renames are journalled."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content` in one step; a reader sees the old file or the new, never half."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_errors(path):
        remove_abandoned(path, ".tmp")
        try:
            temporary.write_bytes(data)
            fsync_file(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(path.parent)


def remove_abandoned(final: Path, suffix: str) -> None:
    """Half-written things for `final` (.NAME.PROCESS.suffix) of killed processes; one of a living process stays."""
    for left in final.parent.glob(f".{glob.escape(final.name)}.*{suffix}"):
        owner = left.name.split(".")[-2]
        if owner.isdigit() and not _is_alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)


def _is_alive(process_id: int) -> bool:
    if os.name == "nt":
        # Signal 0 would end the process there: leave it to the user.
        return True
    if process_id == os.getpid():
        # This process has none yet: an earlier one had its number.
        return False
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
