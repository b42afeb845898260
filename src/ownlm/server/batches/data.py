"""All that files and batches keep of an owner: to be handed over, or to be gone; also while a server runs."""

import base64
from collections.abc import Iterator
from typing import Any

from ownlm.server.batches.kept import Batches
from ownlm.server.dialects import openai_batches, openai_files
from ownlm.server.files import Files
from ownlm.server.store import Store

_PAGE = 100


class BatchData:
    """`owner`: a principal's id; None: everybody's."""

    def __init__(self, store: Store) -> None:
        self._store, self._files, self._batches = store, Files(store), Batches(store)

    def export(self, owner: str | None) -> Iterator[dict[str, Any]]:
        """Files with their content, batches with the answers that are in no file yet; each with "kind" and "owner"."""
        for one in self._owners() if owner is None else [owner]:
            yield from self._of_files(one)
            yield from self._of_batches(one)

    def clear(self, owner: str | None) -> int:
        """How many were deleted; batches under way end so."""
        with self._store.writing() as database:
            asked = "SELECT id FROM files WHERE ? IS NULL OR owner = ?"
            ids = [row["id"] for row in database.execute(asked, (owner, owner)).fetchall()]
            count = 0
            for table in ("batches", "files"):
                count += database.execute(f"DELETE FROM {table} WHERE ? IS NULL OR owner = ?", (owner, owner)).rowcount
        for id in ids:
            self._files.path(id).unlink(missing_ok=True)
        return count

    def _owners(self) -> list[str]:
        return [row["owner"] for row in self._store.all("SELECT owner FROM files UNION SELECT owner FROM batches")]

    def _of_files(self, owner: str) -> Iterator[dict[str, Any]]:
        after, more = None, True
        while more:
            found, more = self._files.list(owner, after=after, limit=_PAGE)
            for stored in found:
                after = stored.id
                content = self._files.path(stored.id).read_bytes()
                try:
                    told: dict[str, Any] = {"content": content.decode()}
                except UnicodeDecodeError:
                    told = {"content_base64": base64.b64encode(content).decode()}
                yield {"kind": "file", "owner": owner, **openai_files.told(stored, None), **told}

    def _of_batches(self, owner: str) -> Iterator[dict[str, Any]]:
        after, more = None, True
        while more:
            found, more = self._batches.list(owner, after=after, limit=_PAGE)
            for batch in found:
                after = batch.id
                answers = [line["answer"] for line in self._batches.lines(batch.id) if line["answer"] is not None]
                yield {"kind": "batch", "owner": owner, **openai_batches.told(batch), "answers": answers}
