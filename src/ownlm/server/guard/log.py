"""guard.jsonl in --data: every decision a line, and every line bound to the one before it by its hash.

    {"number": 2, "time": ..., "request": ..., "key": ..., "model": ..., "rule": ..., "action": ..., "where": ...,
     "digest": SHA-256 of guard.salt and the text, "previous": hash of line 1, "hash": SHA-256 of all that}

A line is on the disk before what it decides is sent. A line without a line break at its end was cut by a kill, and
nothing had been sent on its strength: the next start takes it off, and says so in a line of its own. The salt lies in a
file of its own, so that the log can be shown without letting anybody try out what a short text was.
"""

import asyncio
import errno
import hashlib
import json
import os
import secrets
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from ownlm.artefact.lock import try_lock
from ownlm.errors import OwnlmError

NAME, SALT = "guard.jsonl", "guard.salt"
BEGINNING = "0" * 64
# The longest line that is read; ours are far shorter.
LONGEST = 64 * 2**10


class DecisionLog:
    """The one writer of a folder's log, until `close`."""

    def __init__(self, folder: Path) -> None:
        self._lock = _held(folder)
        path = folder / NAME
        try:
            self._salt = _salt(folder / SALT)
            self._number, self._last, torn = _end(path)
            # Without a buffer: what a full disk did not take must not be written later.
            self._file = path.open("ab", buffering=0)
            path.chmod(0o600)
            self._size = path.stat().st_size - torn
            self._file.truncate(self._size)
        except OSError as error:
            self._lock.close()
            raise OwnlmError(f"{path} cannot be written: {error.strerror}; name another --data") from None
        except OwnlmError:
            self._lock.close()
            raise
        self._waiting: deque[tuple[Mapping[str, Any], Future[None]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ownlm-guard-log")
        if torn:
            self._waiting.append(({"action": "mended", "bytes": torn}, Future()))
            self._write()

    def digest(self, text: str) -> str:
        return hashlib.sha256(self._salt + text.encode("utf-8", "surrogatepass")).hexdigest()

    async def append(self, facts: Mapping[str, Any]) -> None:
        """It is on the disk when this returns. OSError where it cannot be."""
        done: Future[None] = Future()
        self._waiting.append((facts, done))
        # One thread, one after the other; each turn takes all that wait, for one fsync.
        self._thread.submit(self._write)
        await asyncio.wrap_future(done)

    def close(self) -> None:
        self._thread.shutdown()
        self._file.close()
        self._lock.close()

    def _write(self) -> None:
        taken = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not taken:
            return
        number, last = self._number, self._last
        try:
            lines = []
            for facts, _ in taken:
                now = datetime.now(UTC).isoformat(timespec="milliseconds")
                record = {"number": self._number + 1, "time": now, **facts, "previous": self._last}
                self._number, self._last = self._number + 1, hash_of(record)
                lines.append(line_of(record, self._last))
            data = "".join(lines).encode()
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
            self._size += len(data)
            failed = None
        except OSError as error:
            self._number, self._last, failed = number, last, error
            with suppress(OSError):
                self._file.truncate(self._size)
        for _, done in taken:
            # Who waited may have gone; the decision stands.
            if done.set_running_or_notify_cancel():
                if failed is None:
                    done.set_result(None)
                else:
                    done.set_exception(failed)


def hash_of(record: Mapping[str, Any]) -> str:
    """Of a line without its own hash."""
    written = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(written.encode()).hexdigest()


def line_of(record: Mapping[str, Any], own: str) -> str:
    return json.dumps({**record, "hash": own}) + "\n"


def _held(folder: Path) -> BinaryIO:
    try:
        lock = (folder / ".guard.lock").open("ab")
    except OSError as error:
        raise OwnlmError(f"{folder} cannot hold the log of decisions: {error.strerror}; name another --data") from None
    if not try_lock(lock.fileno()):
        lock.close()
        raise OwnlmError(f"another server writes the log of decisions in {folder}; name another --data")
    return lock


def _salt(path: Path) -> bytes:
    if not path.exists():
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            part.chmod(0o600)
            file.write(secrets.token_bytes(32))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    found = path.read_bytes()
    if len(found) != 32:
        raise OwnlmError(f"{path} must have 32 bytes and has {len(found)}; move it and {NAME} away to begin anew")
    return found


def _end(path: Path) -> tuple[int, str, int]:
    """Of a log: its last line's number and hash, and how many bytes behind it are no whole line."""
    size = path.stat().st_size if path.exists() else 0
    if not size:
        return 0, BEGINNING, 0
    with path.open("rb") as file:
        file.seek(max(0, size - 2 * LONGEST))
        tail = file.read()
    whole, _, torn = tail.rpartition(b"\n")
    if not whole and not tail.endswith(b"\n"):
        # The very first line was cut, if it is that short.
        if size <= LONGEST:
            return 0, BEGINNING, size
        raise OwnlmError(f"{path} is not a log of decisions; move it away")
    try:
        record = json.loads(whole.rpartition(b"\n")[2])
        own = record.pop("hash")
        if hash_of(record) != own:
            raise ValueError
        return int(record["number"]), str(own), len(torn)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise OwnlmError(
            f"the last line of {path} was altered, and nothing can follow it; `ownlm serve verify-log` says more; "
            f"move the file away to begin a new log"
        ) from None
