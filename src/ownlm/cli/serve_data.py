"""`ownlm serve data`: what clients have stored on a server, given out and deleted; also while it runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ownlm.cli.serve import DATA

if TYPE_CHECKING:
    from ownlm.server.store import Store


def export(*, key: str | None = None, data: Path = DATA) -> int:
    """Write what clients have stored to stdout: a JSON object a line, with its kind and its key's name.

    Example: ownlm serve data export --key anna > anna.jsonl

    Parameters
    ----------
    key
        The key whose things are written, revoked or not; "local" for what was stored without one; left out: all.
    data
        The server's --data folder.
    """
    from json import dumps

    from ownlm.server.stored import export as stored

    for found in stored(_store(data), key):
        sys.stdout.write(dumps(found, ensure_ascii=False) + "\n")
    return 0


def delete(*, key: str | None = None, data: Path = DATA) -> int:
    """Delete what clients have stored. Keys stay.

    Example: ownlm serve data delete --key anna

    Parameters
    ----------
    key
        The key whose things are deleted, revoked or not; "local" for what was stored without one; left out: all.
    data
        The server's --data folder.
    """
    from ownlm.server.stored import delete as forget

    count = forget(_store(data), key)
    sys.stdout.write(f"{count:,} stored {'thing is' if count == 1 else 'things are'} deleted\n")
    return 0


def _store(data: Path) -> "Store":
    from ownlm.errors import OwnlmError
    from ownlm.server.store import NAME, Store

    if not (data / NAME).is_file():
        raise OwnlmError(f"{data} holds no server's data; name the server's --data")
    return Store(data)
