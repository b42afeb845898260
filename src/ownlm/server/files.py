"""Files that clients leave here, and that batches leave for them: bytes in a folder, what they are in the store.

    upload ──▶ files/.file-1a2b.PROCESS.tmp ──fsync, rename──▶ files/file-1a2b ──▶ a row in the store

A row never stands without its bytes; bytes without a row are what a killed process left, and are cleared away. On disk
a file is called by its id alone, which is ours: a client's name for it is kept in the row and opens nothing.
"""

import errno
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection, Row
from typing import BinaryIO

from ownlm.artefact.write import fsync_folder
from ownlm.server.batches.tables import HELD, IN_USE, TABLES
from ownlm.server.errors import ApiError, bad
from ownlm.server.limits import Limits
from ownlm.server.store import Store

_ID = re.compile(r"file-[0-9a-f]{24}")
MOST_FILES = 10_000
# Bytes without a row that are older than this are nobody's: an upload makes its row at once.
_ABANDONED = 3600.0


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """`expires`: when it was asked to go, None if it was not; the server's own retention comes on top."""

    id: str
    name: str
    purpose: str
    bytes: int
    created: float
    expires: float | None


class Files:
    """Every method waits for the disk: in asyncio call it in a thread."""

    def __init__(self, store: Store, limits: Limits | None = None) -> None:
        self.store, self.limits = store, limits or Limits()
        self.folder = store.folder / "files"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        store.make(TABLES)

    def add(
        self, owner: str, write: Callable[[BinaryIO], None], *, name: str, purpose: str, seconds: int | None = None
    ) -> StoredFile:
        """What `write` writes, kept for `owner`, no longer than `seconds`; ApiError where there is no room for it."""
        self.check_room(owner)
        with self.draft() as (id, file):
            write(file)
            size = file.tell()
        try:
            with self.store.writing() as database:
                room = self.limits.owner_bytes - database.execute(HELD, (owner, owner)).fetchone()[0]
                count = database.execute("SELECT COUNT(*) FROM files WHERE owner = ?", (owner,)).fetchone()[0]
                if size > room or count >= MOST_FILES:
                    raise _full()
                self.enter(database, id, owner, name=name, purpose=purpose, size=size, seconds=seconds)
        except BaseException:
            self.path(id).unlink(missing_ok=True)
            raise
        return self.get(owner, id)

    @contextmanager
    def draft(self) -> Iterator[tuple[str, BinaryIO]]:
        """A new id and a file to write; on leaving it is whole and durable under that id. `enter` makes its row."""
        id = f"file-{secrets.token_hex(12)}"
        temporary = self.folder / f".{id}.{os.getpid()}.tmp"
        try:
            with temporary.open("xb") as file:
                yield id, file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path(id))
            fsync_folder(self.folder)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise ApiError(status=507, message="the server's disk is full", code="storage_full") from error
        finally:
            temporary.unlink(missing_ok=True)

    def enter(
        self, database: Connection, id: str, owner: str, *, name: str, purpose: str, size: int, seconds: int | None
    ) -> None:
        now = time.time()
        expires = None if seconds is None else now + seconds
        asked = "INSERT INTO files (id, owner, name, purpose, bytes, created, expires) VALUES (?, ?, ?, ?, ?, ?, ?)"
        database.execute(asked, (id, owner, _printable(name), purpose, size, now, expires))

    def check_room(self, owner: str) -> None:
        """ApiError where the owner's room is taken, by files and by answers that are not files yet."""
        if not self.has_room(owner):
            raise _full()

    def has_room(self, owner: str) -> bool:
        held = self.store.one(HELD, owner, owner)
        return held is not None and held[0] < self.limits.owner_bytes

    def get(self, owner: str, id: str) -> StoredFile:
        row = self.store.one("SELECT * FROM files WHERE owner = ? AND id = ?", owner, id)
        if row is None:
            raise _missing()
        return _file(row)

    def list(
        self,
        owner: str,
        *,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = MOST_FILES,
        up: bool = False,
    ) -> tuple[list[StoredFile], bool]:
        """The newest first, or last with `up`; and whether there are more."""
        place = None
        if after is not None:
            row = self.store.one("SELECT place FROM files WHERE owner = ? AND id = ?", owner, after)
            if row is None:
                raise bad("after names no file that is here", "after")
            place = row["place"]
        beyond, order = (">", "ASC") if up else ("<", "DESC")
        question = f"""SELECT * FROM files WHERE owner = ? AND (? IS NULL OR purpose = ?)
            AND (? IS NULL OR place {beyond} ?) ORDER BY place {order} LIMIT ?"""
        rows = self.store.all(question, owner, purpose, purpose, place, place, limit + 1)
        return [_file(row) for row in rows[:limit]], len(rows) > limit

    def delete(self, owner: str, id: str) -> None:
        with self.store.writing() as database:
            if not database.execute("SELECT 1 FROM files WHERE owner = ? AND id = ?", (owner, id)).fetchone():
                raise _missing()
            if database.execute(IN_USE, (id,)).fetchone():
                message = "a batch still reads this file; cancel the batch first"
                raise ApiError(status=409, message=message, param="file_id", code="file_in_use")
            database.execute("DELETE FROM files WHERE owner = ? AND id = ?", (owner, id))
        self.path(id).unlink(missing_ok=True)

    def sweep(self, keep_seconds: float | None) -> None:
        """What has been kept long enough goes, whoever owns it, and what killed processes left."""
        now = time.time()
        oldest = 0.0 if keep_seconds is None else now - keep_seconds
        question = f"""SELECT id FROM files AS old WHERE (created < ? OR expires < ?)
            AND NOT EXISTS ({IN_USE.replace("?", "old.id")})"""
        with self.store.writing() as database:
            gone = [row["id"] for row in database.execute(question, (oldest, now)).fetchall()]
            database.executemany("DELETE FROM files WHERE id = ?", [(id,) for id in gone])
        for id in gone:
            self.path(id).unlink(missing_ok=True)
        for path in self.folder.iterdir():
            with suppress(OSError):
                known = self.store.one("SELECT 1 FROM files WHERE id = ?", path.name)
                if known is None and path.stat().st_mtime < now - _ABANDONED:
                    path.unlink()

    def path(self, id: str) -> Path:
        assert _ID.fullmatch(id), "an id that is none of ours"
        return self.folder / id


def _missing() -> ApiError:
    return ApiError(status=404, message="there is no such file", param="file_id", code="file_not_found")


def _full() -> ApiError:
    message = "the room for this key's files is taken; delete some"
    return ApiError(status=413, message=message, code="storage_full")


def _file(row: Row) -> StoredFile:
    return StoredFile(**{name: row[name] for name in StoredFile.__dataclass_fields__})


def _printable(name: str) -> str:
    return "".join(character for character in name if character.isprintable())[:255] or "file"
