"""Is a log of decisions what was written? Walked from its first line: each line's hash, and its hold on the one before.

Whoever may write the file may also cut its end, or write it anew from some line on with hashes that fit: that is seen
only against a hash that somebody noted elsewhere.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from ownlm.errors import OwnlmError
from ownlm.server.guard.log import BEGINNING, LONGEST, hash_of, line_of


@dataclass(frozen=True, kw_only=True)
class Walked:
    """`broken`: what is wrong at line `line`, the first. `head_at`: the decision whose hash was noted."""

    decisions: int
    first: str = ""
    last: str = ""
    hash: str = BEGINNING
    line: int = 0
    broken: str | None = None
    torn: bool = False
    head_at: int | None = None


def verify(path: Path, head: str | None = None) -> Walked:
    count, previous, first, last, head_at, torn = 0, BEGINNING, "", "", None, False
    broken = None
    try:
        with path.open("rb") as file:
            while line := file.readline(LONGEST):
                if not line.endswith(b"\n") and len(line) < LONGEST:
                    torn = True
                    break
                broken, own, time = _look(line, count + 1, previous)
                if broken is not None:
                    break
                count, previous, first, last = count + 1, own, first or time, time
                if own == head:
                    head_at = count
    except OSError as error:
        raise OwnlmError(f"{path} cannot be read: {error.strerror}; name the server's --data") from None
    return Walked(
        decisions=count,
        first=first,
        last=last,
        hash=previous,
        line=count + 1,
        broken=broken,
        torn=torn,
        head_at=head_at,
    )


def _look(line: bytes, number: int, previous: str) -> tuple[str | None, str, str]:
    """What is wrong with a line, its hash, its time."""
    try:
        record = json.loads(line)
        own = record.pop("hash")
        # Written otherwise, such as with a name that stands twice, it is another line.
        fits = hash_of(record) == own and line_of(record, own).encode() == line
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "it is no decision: it was altered", "", ""
    if not fits:
        return "it was altered: its hash is not that of what it says", "", ""
    if record.get("previous") != previous:
        said = record.get("number")
        if isinstance(said, int) and said > number:
            return f"it is decision {said}, and {number} should stand here: lines were removed or reordered", "", ""
        return "it does not follow the line before it: lines were inserted or reordered", "", ""
    return None, own, str(record.get("time"))
