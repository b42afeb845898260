"""Keys: who may ask, for what, until when, and how much. Only a key's hash is kept; the key itself is shown once.

A key is 256 random bits, so one round of SHA-256 is enough: there is nothing to guess (slow hashes are for passwords).
It is looked up by that hash, so that no comparison of ours goes letter by letter. Changes hold for the next request,
for every request looks in the store.
"""

import builtins
import hashlib
import json
import re
import secrets
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.server.principal import ANYBODY, Principal
from ownlm.server.store import Store

TABLES = (
    """CREATE TABLE IF NOT EXISTS keys (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL UNIQUE, models TEXT NOT NULL,
        routes TEXT NOT NULL, created REAL NOT NULL, expires REAL, tokens_a_day INTEGER, revoked REAL)""",
    """CREATE TABLE IF NOT EXISTS used (
        key TEXT NOT NULL, day INTEGER NOT NULL, tokens INTEGER NOT NULL, PRIMARY KEY (key, day))""",
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class Key:
    """As it is listed; what it was made of is known to its holder alone."""

    id: str
    name: str
    models: tuple[str, ...]
    routes: tuple[str, ...]
    created: float
    expires: float | None
    tokens_a_day: int | None
    revoked: float | None
    used_today: int

    @property
    def holds(self) -> bool:
        return self.revoked is None and (self.expires is None or self.expires > time.time())


class Keys:
    def __init__(self, store: Store) -> None:
        self._store = store
        store.make(TABLES)

    def add(
        self,
        name: str,
        *,
        models: Sequence[str] = (),
        routes: Sequence[str] = (),
        expires: float | None = None,
        tokens_a_day: int | None = None,
    ) -> str:
        """A new key, as its holder sends it. `models` and `routes` are patterns (*); `expires` a time of the clock."""
        if not _NAME.fullmatch(name):
            raise OwnlmError(f"a key's name has up to 64 letters, digits, and . _ -, got {name[:80]!r}")
        if tokens_a_day is not None and tokens_a_day < 1:
            raise OwnlmError(f"tokens_a_day must be at least 1, got {tokens_a_day}")
        key = f"own-{secrets.token_urlsafe(32)}"
        with self._store.writing() as database:
            if database.execute("SELECT 1 FROM keys WHERE name = ?", (name,)).fetchone():
                raise OwnlmError(f"there is a key called {name} already; revoke it or take another name")
            database.execute(
                "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
                (
                    f"key_{secrets.token_hex(8)}",
                    name,
                    _hash(key),
                    json.dumps(list(models)),
                    json.dumps(list(routes)),
                    time.time(),
                    expires,
                    tokens_a_day,
                ),
            )
        return key

    def list(self) -> list[Key]:
        question = """SELECT keys.*, COALESCE(used.tokens, 0) AS used_today FROM keys
            LEFT JOIN used ON used.key = keys.id AND used.day = ? ORDER BY created"""
        return [
            Key(
                id=row["id"],
                name=row["name"],
                models=tuple(json.loads(row["models"])),
                routes=tuple(json.loads(row["routes"])),
                created=row["created"],
                expires=row["expires"],
                tokens_a_day=row["tokens_a_day"],
                revoked=row["revoked"],
                used_today=row["used_today"],
            )
            for row in self._store.all(question, _today())
        ]

    def revoke(self, name: str) -> None:
        """It opens nothing from the next request on; what it owns stays until it is deleted."""
        with self._store.writing() as database:
            asked = "UPDATE keys SET revoked = ? WHERE name = ? AND revoked IS NULL"
            if not database.execute(asked, (time.time(), name)).rowcount:
                raise OwnlmError(f"there is no key called {name[:80]!r} that holds; see `ownlm serve keys list`")

    def rows(self) -> builtins.list[tuple[Any, ...]]:
        """All that is known of them, for put() in another store."""
        return [tuple(row) for row in self._store.all("SELECT * FROM keys")]

    def put(self, rows: Sequence[tuple[Any, ...]]) -> None:
        with self._store.writing() as database:
            database.executemany("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    @property
    def any(self) -> bool:
        """Was there ever a key? Then none but its holders get in, also when all are revoked."""
        return self._store.one("SELECT 1 FROM keys") is not None

    def find(self, key: str) -> Principal | None:
        """Who holds this key, if it still holds."""
        return self._principal(self._store.one("SELECT * FROM keys WHERE sha256 = ?", _hash(key)))

    def of_owner(self, id: str) -> Principal | None:
        """Who owns what is stored under `id`, if that key still holds; for work that goes on without its holder."""
        if id == ANYBODY.id:
            return None if self.any else ANYBODY
        return self._principal(self._store.one("SELECT * FROM keys WHERE id = ?", id))

    def _principal(self, row: sqlite3.Row | None) -> Principal | None:
        if row is None or row["revoked"] is not None or (row["expires"] is not None and row["expires"] <= time.time()):
            return None
        left = None
        if row["tokens_a_day"] is not None:
            used = self._store.one("SELECT tokens FROM used WHERE key = ? AND day = ?", row["id"], _today())
            left = row["tokens_a_day"] - (used["tokens"] if used is not None else 0)
        return Principal(
            id=row["id"],
            name=row["name"],
            models=tuple(json.loads(row["models"])),
            routes=tuple(json.loads(row["routes"])),
            tokens=left,
        )

    def count(self, principal: Principal, tokens: int) -> None:
        """Tokens of prompt and answer that were used now."""
        if principal.tokens is None or not tokens:
            return
        asked = """INSERT INTO used VALUES (?, ?, ?) ON CONFLICT (key, day)
            DO UPDATE SET tokens = tokens + excluded.tokens"""
        with self._store.writing() as database:
            database.execute(asked, (principal.id, _today(), tokens))


def seconds_to_tomorrow() -> float:
    return _DAY - time.time() % _DAY


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _today() -> int:
    return int(time.time() // _DAY)
