"""A folder's passages in SQLite's full-text search, kept in the cache and renewed for the files that changed.

    PassageIndex.open(folder)  ──▶  refresh: read what is new  ──▶  search(question): the nearest passages, by BM25

One file of the cache for each folder, named by a hash of where it lies. A file is read again when its size or time has
changed. Each file's passages are written in one transaction: a kill loses one file's work, and of two processes that
index one folder either may write first. It can be thrown away at any time.
"""

import contextlib
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import log
from pathlib import Path

from ownlm.apps.passages import Passage, passages
from ownlm.apps.question_words import TOKENIZER, match_any, question_words
from ownlm.artefact.cache import CACHE_FIX, cache_entry
from ownlm.corpus.readers import FolderReader, LeftOut, files_below
from ownlm.errors import OwnlmError

# What is stored changes with this number: an index of another is made anew.
_VERSION = 1
_ENTRY = "ask"
_WAIT_SECONDS = 60
# Of one text file no more is read.
_MOST_BYTES = 64 * 2**20
# A word in the file's name or the heading counts so many times one in the text.
_TITLE_WEIGHT = 2.0
_TABLES = f"""
CREATE TABLE files (path TEXT PRIMARY KEY, size INTEGER, time INTEGER, first INTEGER, last INTEGER, reason TEXT);
CREATE VIRTUAL TABLE passages USING fts5(
    title, text, file UNINDEXED, places UNINDEXED, line UNINDEXED, tokenize = '{TOKENIZER}'
);
"""


class PassageIndex:
    """`left_out` names the files that could not be read; `files` counts those that could."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self.left_out = LeftOut()
        self.files = 0

    @classmethod
    @contextmanager
    def open(cls, folder: Path, report: Callable[[str], None] = lambda line: None) -> "Iterator[PassageIndex]":
        """Renewed; `report` gets a line where that takes time."""
        if not folder.exists():
            raise OwnlmError(f"no such folder: {folder}; check the spelling")
        place = _place(folder)
        with _database_errors(place):
            try:
                index = cls(_connected(place))
                index.refresh(folder, report)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                # It is damaged, and everything in it can be had again.
                for name in (place.name, f"{place.name}-wal", f"{place.name}-shm"):
                    place.with_name(name).unlink(missing_ok=True)
                index = cls(_connected(place))
                index.refresh(folder, report)
            with contextlib.closing(index._database):
                yield index

    def refresh(self, folder: Path, report: Callable[[str], None]) -> None:
        root = folder.parent if folder.is_file() else folder
        files = [folder] if folder.is_file() else files_below(folder)
        here = {_key(path.relative_to(root).as_posix()): path for path in files}
        known = {
            path: (size, time) for path, size, time in self._database.execute("SELECT path, size, time FROM files")
        }
        for name in known.keys() - here.keys():
            with self._writing():
                self._forget(name)
        changed = [(name, path) for name, path in here.items() if known.get(name) != _stamp(path)]
        if len(changed) > 1:
            report(f"reading {len(changed):,} of {len(here):,} files ...")
        with FolderReader(root, most_bytes=_MOST_BYTES) as reader:
            for name, path in changed:
                self._renew(name, path, reader)
        for name, reason in self._database.execute("SELECT path, reason FROM files ORDER BY path"):
            if reason:
                self.left_out.add(name, reason)
            else:
                self.files += 1

    def search(self, question: str, most: int = 5) -> list[Passage]:
        """The passages nearest to the question, the nearest first."""
        words = question_words(question)
        if not words:
            return []
        rows = self._database.execute(
            "SELECT title, text, file, places, line FROM passages WHERE passages MATCH ? "
            f"ORDER BY bm25(passages, {_TITLE_WEIGHT}, 1.0), rowid LIMIT ?",
            (match_any(words), most),
        )
        return [
            Passage(title=title, text=text, file=file, places=tuple(map(tuple, json.loads(places))), line=line)
            for title, text, file, places, line in rows
        ]

    def weights(self, question: str) -> dict[str, float]:
        """The question's words, each with the logarithm of how many passages there are for one that has it."""
        count = self._database.execute("SELECT count(*) FROM passages").fetchone()[0]
        found = {}
        for word in question_words(question):
            rows = self._database.execute("SELECT count(*) FROM passages WHERE passages MATCH ?", (match_any([word]),))
            found[word] = log(1 + (count + 0.5) / (rows.fetchone()[0] + 0.5))
        return found

    def _renew(self, name: str, path: Path, reader: FolderReader) -> None:
        stamp = _stamp(path)  # before it is read: what changes meanwhile is read again
        before = {reason: len(names) for reason, names in reader.left_out.names.items()}
        try:
            rows = [
                (passage.title, passage.text, name, json.dumps(passage.places), passage.line)
                for document in reader.documents(path)
                for passage in passages(document)
            ]
            reasons = [reason for reason, names in reader.left_out.names.items() if len(names) > before.get(reason, 0)]
        except OwnlmError:  # a broken line of .jsonl
            rows, reasons = [], ["damaged"]
        with self._writing():
            self._forget(name)
            first = self._database.execute("SELECT coalesce(max(rowid), 0) + 1 FROM passages").fetchone()[0]
            self._database.executemany(
                "INSERT INTO passages (rowid, title, text, file, places, line) VALUES (?, ?, ?, ?, ?, ?)",
                ((first + number, *row) for number, row in enumerate(rows)),
            )
            reason = reasons[0] if reasons else None
            self._database.execute(
                "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)", (name, *stamp, first, first + len(rows) - 1, reason)
            )

    def _forget(self, name: str) -> None:
        for first, last in self._database.execute("SELECT first, last FROM files WHERE path = ?", (name,)).fetchall():
            self._database.execute("DELETE FROM passages WHERE rowid BETWEEN ? AND ?", (first, last))
        self._database.execute("DELETE FROM files WHERE path = ?", (name,))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


def _place(folder: Path) -> Path:
    where = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:24]
    return cache_entry(_ENTRY) / f"{where}.sqlite"


def _connected(place: Path) -> sqlite3.Connection:
    # It holds the user's texts: for nobody else to read.
    os.close(os.open(place, os.O_RDWR | os.O_CREAT, 0o600))
    database = sqlite3.connect(place, timeout=_WAIT_SECONDS, isolation_level=None)
    # A commit need not wait for the disk: what a power cut takes is read again.
    _log_ahead(database)
    database.execute("PRAGMA synchronous = NORMAL")
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version != _VERSION:
        database.execute("BEGIN IMMEDIATE")
        # Another process may have been faster.
        if database.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            for name in ("files", "passages"):
                database.execute(f"DROP TABLE IF EXISTS {name}")
            for statement in _TABLES.split(";\n")[:-1]:
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute("COMMIT")
    return database


def _log_ahead(database: sqlite3.Connection) -> None:
    """Of two that switch a new file at once SQLite refuses one at once, for they would wait for each other."""
    until = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.05)


@contextmanager
def _database_errors(place: Path) -> Iterator[None]:
    """A full or busy disk in one line."""
    try:
        yield
    except sqlite3.Error as error:
        raise OwnlmError(f"cannot keep an index in {place}: {error}; {CACHE_FIX}") from None


def _key(name: str) -> str:
    """As it is stored: a name of another encoding is no UTF-8."""
    return name.encode(errors="replace").decode()


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:  # gone meanwhile, or locked away
        return 0, 0
    return found.st_size, found.st_mtime_ns
