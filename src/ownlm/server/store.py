"""The server's own database: one SQLite file in --data, in WAL, which outlives a kill at any moment.

Every table has an owner, and every question names it: what a key may see is decided where it is read. Values are bound,
never written into a statement. A connection belongs to one thread; tables are made by the files that use them.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ownlm.errors import OwnlmError

NAME = "server.db"
_WAIT_SECONDS = 10.0


class Store:
    """`tables`: statements CREATE TABLE IF NOT EXISTS of those who keep something here."""

    def __init__(self, folder: Path, tables: Sequence[str] = ()) -> None:
        self.folder = folder
        self._local = threading.local()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        except OSError as error:
            raise OwnlmError(
                f"{folder} cannot hold the server's data: {error.strerror}; name another --data"
            ) from error
        self.make(tables)

    def make(self, tables: Sequence[str]) -> None:
        with self.writing() as database:
            for statement in tables:
                database.execute(statement)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, durable when it is left."""
        database = self._connection()
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
        except BaseException:
            database.rollback()
            raise
        database.commit()

    def all(self, question: str, *values: Any) -> list[sqlite3.Row]:
        found: list[sqlite3.Row] = self._connection().execute(question, values).fetchall()
        return found

    def one(self, question: str, *values: Any) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self._connection().execute(question, values).fetchone()
        return found

    def _connection(self) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._local, "database", None)
        if found is None:
            try:
                found = sqlite3.connect(self.folder / NAME, timeout=_WAIT_SECONDS, isolation_level=None)
                found.execute("PRAGMA journal_mode = WAL")
                found.execute("PRAGMA synchronous = FULL")
                found.execute("PRAGMA foreign_keys = ON")
                # What is deleted is overwritten, not just let go of.
                found.execute("PRAGMA secure_delete = ON")
            except sqlite3.Error as error:
                raise OwnlmError(
                    f"{NAME} in the --data folder cannot be opened: {error}; name another --data"
                ) from error
            found.row_factory = sqlite3.Row
            self._local.database = found
        return found
