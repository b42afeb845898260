"""All that clients have stored, for those whom it concerns: to be given out as JSON lines, or deleted.

Whatever keeps something of a client's in the store is listed in KEEPERS, and is told of a key's holder by its id.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ownlm.errors import OwnlmError
from ownlm.server.batches.data import BatchData
from ownlm.server.keys import Keys
from ownlm.server.principal import ANYBODY
from ownlm.server.responses.kept import Kept
from ownlm.server.store import Store


class Keeper(Protocol):
    """`owner`: a principal's id; None: everybody's."""

    def export(self, owner: str | None) -> Iterator[dict[str, Any]]:
        """Each thing with its "kind" and its "owner"."""

    def clear(self, owner: str | None) -> int:
        """How many things were deleted."""


KEEPERS: tuple[Callable[[Store], Keeper], ...] = (Kept, BatchData)


def export(store: Store, key: str | None = None) -> Iterator[dict[str, Any]]:
    """What is stored for the key called `key`, or for everybody; "owner" becomes the key's name."""
    names = {ANYBODY.id: ANYBODY.name} | {one.id: one.name for one in Keys(store).list()}
    owner = _owner(store, key)
    for keeper in KEEPERS:
        for found in keeper(store).export(owner):
            id = found.pop("owner")
            yield {"kind": found.pop("kind"), "key": names.get(id, id), **found}


def delete(store: Store, key: str | None = None) -> int:
    owner = _owner(store, key)
    count = sum(keeper(store).clear(owner) for keeper in KEEPERS)
    # What was written ahead goes too; where somebody reads just now, a little later.
    store.all("PRAGMA wal_checkpoint(TRUNCATE)")
    return count


def _owner(store: Store, key: str | None) -> str | None:
    if key is None:
        return None
    found = next((one.id for one in Keys(store).list() if one.name == key), None)
    if found is None and key == ANYBODY.name:
        return ANYBODY.id
    if found is None:
        raise OwnlmError(f"there never was a key called {key[:80]!r}; see `ownlm serve keys list`")
    return found
