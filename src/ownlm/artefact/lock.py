"""One process at a time in a folder that is being written."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ownlm.artefact.write import OTHER_PLACE, disk_errors
from ownlm.errors import OwnlmError

# The longest that a waiting process sleeps after the lock has become free.
_WAIT_SECONDS = 0.2


@contextmanager
def folder_lock(folder: Path, *, waiting: Callable[[], None] | None = None, fix: str = OTHER_PLACE) -> Iterator[None]:
    """Hold `folder` for this process. The kernel lets go when the process ends, however it ends.

    A folder that another process holds is refused; with `waiting` that is called once, and then waited.
    """
    with disk_errors(folder, fix=fix):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise OwnlmError(f"{folder} is a file, or lies below one; name a folder as --out") from None
        file = (folder / ".lock").open("a+")
    with file:
        if not try_lock(file.fileno()):
            if waiting is None:
                other = ", or name another --out" if fix == OTHER_PLACE else ""
                raise OwnlmError(f"another ownlm process is writing {folder}; wait for it{other}")
            waiting()
            while not try_lock(file.fileno()):
                time.sleep(_WAIT_SECONDS)
        yield


def join_lock(handle: int, *, first: Callable[[], None]) -> None:
    """Hold an open file together with other processes; `first` is called where none holds it, before another can."""
    if try_lock(handle):
        first()
    if os.name != "nt":
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_SH)


def try_lock(handle: int) -> bool:
    """Hold an open file for this process; False where another one does."""
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
