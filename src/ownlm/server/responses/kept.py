"""Responses that outlive the server: one row each, with its owner, written when it begins and again when it has ended.

Bounds: so many responses and bytes an owner (the oldest go first), and a time after which they are deleted. Where an
answer goes on from another, its row names that one; what was said is read back along these names.
"""

import json
import logging
import re
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from ownlm.artefact.lock import join_lock
from ownlm.server.errors import ApiError, bad
from ownlm.server.responses.items import owner_of
from ownlm.server.store import Store

log = logging.getLogger("ownlm.server")

TABLES = (
    """CREATE TABLE IF NOT EXISTS responses (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, ended INTEGER NOT NULL, previous TEXT,
        response TEXT NOT NULL, input TEXT NOT NULL, events BLOB, bytes INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS responses_of_owner ON responses (owner, created, ended, bytes, id)",
)
DAY = 86_400.0
MOST, MOST_BYTES = 10_000, 256 * 2**20
LONGEST_CHAIN = 1_000
_ID = re.compile(r"resp_[0-9a-f]{32}")
_LOST = "the server ended before the answer was whole; ask again"


class Kept:
    """`seconds`: how long a response is kept; None: until its owner deletes it, or newer ones take its place."""

    def __init__(
        self, store: Store, *, seconds: float | None = 30 * DAY, most: int = MOST, most_bytes: int = MOST_BYTES
    ) -> None:
        self.seconds = seconds
        self._store, self._most, self._most_bytes = store, most, most_bytes
        self._lock: BinaryIO | None = None
        store.make(TABLES)

    def open(self) -> None:
        """To be called before anything is asked: of a --data folder's servers the first tells what was lost."""
        self._lock = (self._store.folder / ".responses.lock").open("ab")
        join_lock(self._lock.fileno(), first=self._lose_unfinished)

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def begin(self, owner: str, response: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> None:
        """ApiError where it cannot be kept: who asks for it learns so before the answer."""
        told, given = _written(response), _written(items)
        values = (response["id"], owner, time.time(), response["previous_response_id"], told, given)
        try:
            with self._store.writing() as database:
                database.execute(
                    "INSERT INTO responses VALUES (?, ?, ?, 0, ?, ?, ?, NULL, ?)", (*values, len(told) + len(given))
                )
                self._make_room(database, owner)
        except sqlite3.Error as error:
            log.error("a response cannot be stored", exc_info=error)
            message = "the response cannot be stored now; ask again later, or with store: false"
            raise ApiError(status=507, message=message) from error

    def end(self, owner: str, response: Mapping[str, Any], events: Sequence[bytes] = ()) -> None:
        """Nothing where its owner has deleted it meanwhile."""
        told, packed = _written(response), zlib.compress(b"".join(events)) if events else None
        asked = """UPDATE responses SET ended = 1, response = ?, events = ?, bytes = length(input) + ?
            WHERE id = ? AND owner = ?"""
        size = len(told) + len(packed or b"")
        try:
            with self._store.writing() as database:
                database.execute(asked, (told, packed, size, response["id"], owner))
                self._make_room(database, owner)
        except sqlite3.Error as error:
            log.error("the end of a response cannot be stored", exc_info=error)

    def get(self, owner: str, id: str) -> dict[str, Any]:
        """The response; ApiError 404 where this owner has none called so."""
        found: dict[str, Any] = json.loads(self._row(owner, id, "response")["response"])
        return found

    def items(self, owner: str, id: str) -> list[dict[str, Any]]:
        """What it was asked, without what came before."""
        found: list[dict[str, Any]] = json.loads(self._row(owner, id, "input")["input"])
        return found

    def events(self, owner: str, id: str) -> list[bytes]:
        """Its stream's; none where they were not kept."""
        packed = self._row(owner, id, "events")["events"]
        if packed is None:
            return []
        return [event + b"\n\n" for event in zlib.decompress(packed).split(b"\n\n")[:-1]]

    def delete(self, owner: str, id: str) -> None:
        self._row(owner, id, "id")
        with self._store.writing() as database:
            database.execute("DELETE FROM responses WHERE id = ? AND owner = ?", (id, owner))

    def conversation(self, owner: str, id: str, *, most_bytes: int) -> list[dict[str, Any]]:
        """All items up to and with the response `id`, the oldest first."""
        turns: list[list[dict[str, Any]]] = []
        at: str | None = id
        while at is not None:
            if len(turns) >= LONGEST_CHAIN:
                raise bad(f"the conversation has more than {LONGEST_CHAIN} responses; begin anew", _PREVIOUS)
            try:
                row = self._row(owner, at, "previous, response, input, ended, bytes")
            except ApiError as error:
                which = "previous_response_id names a response" if at == id else "an earlier response of it is one"
                raise ApiError(
                    status=404, message=f"{which} that is not, or no longer, here", param=_PREVIOUS
                ) from error
            if not row["ended"]:
                raise bad("the response that previous_response_id names has not ended yet", _PREVIOUS)
            most_bytes -= row["bytes"]
            if most_bytes < 0:
                raise bad("the conversation has become too long; begin anew", _PREVIOUS, code="context_length_exceeded")
            turns.append(json.loads(row["input"]) + json.loads(row["response"])["output"])
            at = row["previous"]
        return [item for turn in reversed(turns) for item in turn]

    def referred(self, owner: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Of items that are only named, those that are in an answer of this owner's."""
        by_answer: dict[str, list[tuple[int, str]]] = {}
        for name in names:
            if (place := owner_of(name)) is not None:
                by_answer.setdefault(place[0], []).append((place[1], name))
        found: dict[str, dict[str, Any]] = {}
        for answer, places in by_answer.items():
            row = self._store.one("SELECT response FROM responses WHERE id = ? AND owner = ?", answer, owner)
            output = [] if row is None else json.loads(row["response"])["output"]
            found |= {name: output[place] for place, name in places if place < len(output)}
        return found

    def _lose_unfinished(self) -> None:
        """What was under way when a server ended without a word has failed, and says so."""
        with self._store.writing() as database:
            for row in database.execute("SELECT id, response FROM responses WHERE ended = 0").fetchall():
                error = {"code": "server_error", "message": _LOST}
                told = _written(json.loads(row["response"]) | {"status": "failed", "error": error})
                database.execute("UPDATE responses SET ended = 1, response = ? WHERE id = ?", (told, row["id"]))

    def expire(self) -> int:
        """Delete what is older than it may become."""
        if self.seconds is None:
            return 0
        with self._store.writing() as database:
            asked = "DELETE FROM responses WHERE created < ?"
            return database.execute(asked, (time.time() - self.seconds,)).rowcount

    def export(self, owner: str | None) -> Iterator[dict[str, Any]]:
        """All of an owner's, or of everybody's, the oldest first."""
        for row in self._store.all(
            "SELECT id FROM responses WHERE owner = ? OR ? IS NULL ORDER BY created", owner, owner
        ):
            found = self._store.one("SELECT owner, response, input FROM responses WHERE id = ?", row["id"])
            if found is not None:
                kept = {"response": json.loads(found["response"]), "input": json.loads(found["input"])}
                yield {"kind": "response", "owner": found["owner"], **kept}

    def clear(self, owner: str | None) -> int:
        """Delete all of an owner's, or of everybody's."""
        with self._store.writing() as database:
            return database.execute("DELETE FROM responses WHERE owner = ? OR ? IS NULL", (owner, owner)).rowcount

    def _row(self, owner: str, id: str, columns: str) -> sqlite3.Row:
        row = None
        if _ID.fullmatch(id):
            row = self._store.one(f"SELECT {columns} FROM responses WHERE id = ? AND owner = ?", id, owner)
        if row is None:
            raise ApiError(status=404, message="there is no such response here")
        return row

    def _make_room(self, database: sqlite3.Connection, owner: str) -> None:
        """The newest stays whatever its size, and what is under way."""
        newest = """SELECT id, ended, ROW_NUMBER() OVER newest AS place, SUM(bytes) OVER newest AS size
            FROM responses WHERE owner = ? WINDOW newest AS (ORDER BY created DESC, rowid DESC)"""
        database.execute(
            f"""DELETE FROM responses WHERE owner = ? AND id IN
                (SELECT id FROM ({newest}) WHERE ended AND place > 1 AND (place > ? OR size > ?))""",
            (owner, owner, self._most, self._most_bytes),
        )


_PREVIOUS = "previous_response_id"


def _written(what: Any) -> str:
    return json.dumps(what, ensure_ascii=False, separators=(",", ":"))
