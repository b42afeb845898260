"""The user's own items: JSON lines, plain or gzipped, each of which is told by number where it is wrong.

In:  a file. Out: for every line that is not blank its number and object.
"""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ownlm.artefact.read import read_errors, strict_json
from ownlm.errors import OwnlmError

MOST_LINE_BYTES = 2**25


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """OwnlmError names the first line that holds no JSON object."""
    open_lines: Callable[[Path, str], Any] = gzip.open if path.suffix.lower() == ".gz" else open
    with read_errors(path), open_lines(path, "rb") as file:
        number = 0
        try:
            while line := file.readline(MOST_LINE_BYTES + 1):
                number += 1
                if line.strip():
                    yield number, _object(line, f"{path}:{number}")
        except (EOFError, gzip.BadGzipFile, zlib.error):
            raise OwnlmError(f"{path} is damaged after line {number}; copy or compress it anew") from None


def _object(line: bytes, place: str) -> dict[str, Any]:
    if len(line) > MOST_LINE_BYTES:
        raise OwnlmError(f"{place} is longer than {MOST_LINE_BYTES:,} bytes; part it into several lines")
    try:
        read = strict_json(line.decode("utf-8-sig"), refusal="{} is no finite number")
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise OwnlmError(f"{place} is no JSON ({reason}); write one JSON object on every line") from None
    if not isinstance(read, dict):
        raise OwnlmError(f"{place} holds a {type(read).__name__}; write one JSON object on every line")
    return read
