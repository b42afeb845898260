"""Batches in the store: what state each is in, its lines, and their answers, each durable as soon as it is whole.

    validating ─▶ in_progress ─▶ finalizing ─▶ completed | expired
        │  └─▶ failed   │
        └───────────────┴─▶ cancelling ─▶ cancelled

A line is answered once: an answer is entered only where there is none, in the transaction that counts it. Which lines
are under way is known to nobody after a kill; those without an answer are simply asked again.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from sqlite3 import Connection, Row
from typing import Any

from ownlm.server.batches.tables import TABLES
from ownlm.server.errors import ApiError, bad
from ownlm.server.store import Store

WINDOW = 86_400.0
# Of one owner: batches that are not at their end, and batches at all.
MOST_GOING, MOST_BATCHES = 20, 10_000
_PAGE = 200


@dataclass(frozen=True, kw_only=True)
class Batch:
    """`times`: when each state was entered. `ends_as`: what it will be when its files are written."""

    id: str
    owner: str
    status: str
    endpoint: str
    input_file: str
    output_file: str | None
    error_file: str | None
    metadata: dict[str, str] | None
    output_seconds: int | None
    errors: list[dict[str, Any]] | None
    times: dict[str, float]
    created: float
    expires: float
    ends_as: str | None
    total: int
    completed: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    drawn_tokens: int
    reasoning_tokens: int

    @property
    def left(self) -> int:
        return self.total - self.completed - self.failed


@dataclass(frozen=True, kw_only=True)
class Line:
    """`number` from 1; `start` and `size`: its bytes in the input file. `tries`: how often it was begun before."""

    number: int
    start: int
    size: int
    custom_id: str
    model: str
    tries: int = 0


@dataclass(frozen=True, kw_only=True)
class Usage:
    prompt_tokens: int = 0
    cached_tokens: int = 0
    drawn_tokens: int = 0
    reasoning_tokens: int = 0


class Batches:
    """Every method waits for the disk: in asyncio call it in a thread.

    `worked`: does this process work on them? `news`: set, in the server's loop, where there is something to look after.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.worked = False
        self.news = asyncio.Event()
        store.make(TABLES)

    # What an owner asks.

    def create(
        self,
        owner: str,
        *,
        input_file: str,
        endpoint: str,
        metadata: Mapping[str, str] | None = None,
        output_seconds: int | None = None,
    ) -> Batch:
        id, now = f"batch_{secrets.token_hex(12)}", time.time()
        with self.store.writing() as database:
            file = database.execute(
                "SELECT purpose FROM files WHERE owner = ? AND id = ?", (owner, input_file)
            ).fetchone()
            if file is None:
                raise bad("input_file_id names no file that is here", "input_file_id", code="file_not_found")
            if file["purpose"] != "batch":
                raise bad("input_file_id names a file that was not uploaded with purpose batch", "input_file_id")
            for most, what in ((MOST_GOING, "AND ended IS NULL"), (MOST_BATCHES, "")):
                question = f"SELECT COUNT(*) FROM batches WHERE owner = ? {what}"
                if database.execute(question, (owner,)).fetchone()[0] >= most:
                    message = f"this key has {most} batches {'under way' if what else 'here'}; more are not taken"
                    raise ApiError(status=429, message=message, code="too_many_batches", retry_after=60)
            database.execute(
                """INSERT INTO batches (id, owner, status, endpoint, input_file, metadata, output_seconds, times,
                    created, expires) VALUES (?, ?, 'validating', ?, ?, ?, ?, '{}', ?, ?)""",
                (id, owner, endpoint, input_file, _json(metadata), output_seconds, now, now + WINDOW),
            )
        return self.get(owner, id)

    def get(self, owner: str, id: str) -> Batch:
        row = self.store.one("SELECT * FROM batches WHERE owner = ? AND id = ?", owner, id)
        if row is None:
            raise ApiError(status=404, message="there is no such batch", param="batch_id", code="batch_not_found")
        return _batch(row)

    def list(self, owner: str, *, after: str | None = None, limit: int = 20) -> tuple[list[Batch], bool]:
        """The newest first, and whether there are more."""
        place = None
        if after is not None:
            row = self.store.one("SELECT place FROM batches WHERE owner = ? AND id = ?", owner, after)
            if row is None:
                raise bad("after names no batch that is here", "after")
            place = row["place"]
        question = "SELECT * FROM batches WHERE owner = ? AND (? IS NULL OR place < ?) ORDER BY place DESC LIMIT ?"
        rows = self.store.all(question, owner, place, place, limit + 1)
        return [_batch(row) for row in rows[:limit]], len(rows) > limit

    def cancel(self, owner: str, id: str) -> Batch:
        batch = self.get(owner, id)
        if batch.status != "cancelling" and not self.end(id, "cancelled"):
            message = f"the batch is {self.get(owner, id).status} and cannot be cancelled any more"
            raise ApiError(status=409, message=message, param="batch_id", code="batch_not_cancellable")
        return self.get(owner, id)

    # What the work on them asks, for all owners.

    def going(self) -> "Sequence[Batch]":
        return [_batch(row) for row in self.store.all("SELECT * FROM batches WHERE ended IS NULL ORDER BY place")]

    def begin(self, id: str, lines: Iterable[Line]) -> None:
        """Its file was found right."""
        entered = [(id, one.number, one.start, one.size, one.custom_id, one.model) for one in lines]
        with self.store.writing() as database:
            if self._turn(database, id, "in_progress", ("validating",)):
                asked = "INSERT INTO lines (batch, number, start, size, custom_id, model) VALUES (?, ?, ?, ?, ?, ?)"
                database.executemany(asked, entered)
                database.execute("UPDATE batches SET total = ? WHERE id = ?", (len(entered), id))

    def fail(self, id: str, errors: "Sequence[Mapping[str, Any]]") -> None:
        """Its file was found wrong."""
        with self.store.writing() as database:
            if self._turn(database, id, "failed", ("validating",)):
                asked = "UPDATE batches SET errors = ?, ended = ? WHERE id = ?"
                database.execute(asked, (_json(errors), time.time(), id))

    def take(self, id: str, but: Collection[int], count: int) -> "Sequence[Line]":
        """The first lines that have no answer and are not among `but`; noted as begun."""
        question = f"""SELECT * FROM lines WHERE batch = ? AND answer IS NULL
            AND number NOT IN ({", ".join("?" * len(but))}) ORDER BY number LIMIT ?"""
        with self.store.writing() as database:
            rows = database.execute(question, (id, *but, count)).fetchall()
            asked = "UPDATE lines SET tries = tries + 1 WHERE batch = ? AND number = ?"
            database.executemany(asked, [(id, row["number"]) for row in rows])
        return [Line(**{name: row[name] for name in Line.__dataclass_fields__}) for row in rows]

    def put_back(self, id: str, numbers: Collection[int]) -> None:
        """They were begun and given up through no fault of theirs."""
        with self.store.writing() as database:
            asked = "UPDATE lines SET tries = tries - 1 WHERE batch = ? AND number = ?"
            database.executemany(asked, [(id, number) for number in numbers])

    def record(self, id: str, number: int, answer: str, *, ok: bool, usage: Usage) -> None:
        with self.store.writing() as database:
            asked = "UPDATE lines SET answer = ?, ok = ? WHERE batch = ? AND number = ? AND answer IS NULL"
            if not database.execute(asked, (answer, ok, id, number)).rowcount:
                return
            database.execute(
                """UPDATE batches SET completed = completed + ?, failed = failed + ?, bytes = bytes + ?,
                    prompt_tokens = prompt_tokens + ?, cached_tokens = cached_tokens + ?,
                    drawn_tokens = drawn_tokens + ?, reasoning_tokens = reasoning_tokens + ? WHERE id = ?""",
                (
                    *(ok, not ok, len(answer.encode()) + 1, usage.prompt_tokens, usage.cached_tokens),
                    *(usage.drawn_tokens, usage.reasoning_tokens, id),
                ),
            )

    def end(self, id: str, ends_as: str, errors: "Sequence[Mapping[str, Any]] | None" = None) -> bool:
        """No more lines are begun; its files are to be written, then it is `ends_as`. False: it was ended before."""
        status = "cancelling" if ends_as == "cancelled" else "finalizing"
        with self.store.writing() as database:
            if not self._turn(database, id, status, ("validating", "in_progress")):
                return False
            asked = "UPDATE batches SET ends_as = ?, errors = ? WHERE id = ?"
            database.execute(asked, (ends_as, _json(errors), id))
        return True

    def lines(self, id: str) -> Iterator[Row]:
        """All of a batch's lines in order, a page at a time."""
        last = 0
        question = "SELECT * FROM lines WHERE batch = ? AND number > ? ORDER BY number LIMIT ?"
        while rows := self.store.all(question, id, last, _PAGE):
            yield from rows
            last = rows[-1]["number"]

    def close(self, database: Connection, batch: Batch, output_file: str | None, error_file: str | None) -> bool:
        """Its files are written; what stands in them stands there alone."""
        assert batch.ends_as is not None
        if not self._turn(database, batch.id, batch.ends_as, ("cancelling", "finalizing")):
            return False
        asked = "UPDATE batches SET output_file = ?, error_file = ?, bytes = 0, ended = ? WHERE id = ?"
        database.execute(asked, (output_file, error_file, time.time(), batch.id))
        database.execute("DELETE FROM lines WHERE batch = ?", (batch.id,))
        return True

    def sweep(self, keep_seconds: float | None) -> None:
        """Batches that ended long enough ago go, whoever owns them."""
        if keep_seconds is not None:
            with self.store.writing() as database:
                database.execute("DELETE FROM batches WHERE ended < ?", (time.time() - keep_seconds,))

    def _turn(self, database: Connection, id: str, status: str, those: tuple[str, str] | tuple[str]) -> bool:
        """Into a state, if it is in one of `those`."""
        row = database.execute("SELECT status, times FROM batches WHERE id = ?", (id,)).fetchone()
        if row is None or row["status"] not in those:
            return False
        times = json.loads(row["times"]) | {status: time.time()}
        database.execute("UPDATE batches SET status = ?, times = ? WHERE id = ?", (status, json.dumps(times), id))
        return True


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _batch(row: Row) -> Batch:
    values = {name: row[name] for name in Batch.__dataclass_fields__}
    for name in ("metadata", "errors", "times"):
        values[name] = None if values[name] is None else json.loads(values[name])
    return Batch(**values)
