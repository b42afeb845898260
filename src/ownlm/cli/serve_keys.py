"""`ownlm serve keys`: who may ask a server. A change holds from the next request on, without a restart."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ownlm.cli.serve import DATA

if TYPE_CHECKING:
    from ownlm.server.keys import Keys


def add(
    name: str,
    *,
    models: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    routes: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    days: float | None = None,
    tokens_a_day: int | None = None,
    data: Path = DATA,
) -> int:
    """Make a key called NAME and print it, this once.

    Example: ownlm serve keys add anna --models "smollm2*" --days 90 --tokens-a-day 1000000

    Parameters
    ----------
    name
        What the key is called in lists and logs.
    models
        The models that it may ask, * for any part of a name; left out: all.
    routes
        The routes that it may use, such as "/v1/chat/*"; left out: all.
    days
        After so many days it ends; left out: never.
    tokens_a_day
        Tokens of prompts and answers that it may use in a day (UTC); left out: any number.
    data
        The server's --data folder.
    """
    from ownlm.errors import OwnlmError

    if days is not None and not 0 < days < 36_500:
        raise OwnlmError(f"days must be above 0 and at most 36,500, got {days}")
    keys = _keys(data)
    key = keys.add(
        name,
        models=models,
        routes=routes,
        expires=None if days is None else time.time() + 86_400 * days,
        tokens_a_day=tokens_a_day,
    )
    sys.stdout.write(f"{key}\n")
    sys.stderr.write(f"ownlm: {name}'s key is above; it is kept nowhere and cannot be shown again\n")
    return 0


def list_(*, data: Path = DATA, json: Annotated[bool, Parameter(negative="")] = False) -> int:
    """The keys, what each may do, and what it used today.

    Example: ownlm serve keys list

    Parameters
    ----------
    data
        The server's --data folder.
    json
        A JSON object a key.
    """
    from dataclasses import asdict
    from json import dumps

    from rich.console import Console
    from rich.table import Table

    found = _keys(data, must_exist=True).list()
    if json:
        sys.stdout.write("".join(dumps({**asdict(key), "holds": key.holds}) + "\n" for key in found))
        return 0
    table = Table("name", "models", "routes", "tokens today", "ends", box=None)
    for key in found:
        ends = "revoked" if key.revoked is not None else "never" if key.expires is None else _day(key.expires)
        most = "" if key.tokens_a_day is None else f" of {key.tokens_a_day:,}"
        used = f"{key.used_today:,}{most}" if most else "not counted"
        table.add_row(key.name, ", ".join(key.models) or "all", ", ".join(key.routes) or "all", used, ends)
    Console().print(table if found else "There is no key; `ownlm serve keys add NAME` makes one.")
    return 0


def revoke(name: str, *, data: Path = DATA) -> int:
    """End the key called NAME: the next request with it is refused.

    Example: ownlm serve keys revoke anna

    Parameters
    ----------
    name
        As `ownlm serve keys list` has it.
    data
        The server's --data folder.
    """
    _keys(data, must_exist=True).revoke(name)
    sys.stdout.write(f"{name} opens nothing any more\n")
    return 0


def _keys(data: Path, *, must_exist: bool = False) -> "Keys":
    from ownlm.errors import OwnlmError
    from ownlm.server.keys import Keys
    from ownlm.server.store import NAME, Store

    if must_exist and not (data / NAME).is_file():
        raise OwnlmError(f"{data} holds no server's data; name the server's --data")
    return Keys(Store(data))


def _day(when: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(when))
