"""One process at a time in a folder that is being written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ownlm.artefact.write import disk_errors
from ownlm.errors import OwnlmError


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process. The kernel lets go when the process ends, however it ends."""
    with disk_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise OwnlmError(f"{folder} is a file, or lies below one; name a folder as --out") from None
        file = (folder / ".lock").open("a+")
    with file:
        if not _try_lock(file.fileno()):
            raise OwnlmError(f"another ownlm process is writing {folder}; wait for it, or name another --out")
        yield


def _try_lock(handle: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
