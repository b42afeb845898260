"""Files that anybody may have written, read with suspicion: a plain file of a size that such a file has, in UTF-8.

In:  a path, and what a user can do where the file is damaged.
Out: its text, or the JSON object in it; what cannot be read is one line.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ownlm.errors import DamagedError, OwnlmError

# The largest that is known, an index of a model's tensors, has a few megabytes.
MOST_BYTES = 32_000_000
READ_FIX = "check the name and who may read it"


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """What the system does not let us read is the user's to mend: one line instead of a traceback."""
    try:
        yield
    except OSError as error:
        raise OwnlmError(f"cannot read {error.filename or path}: {error.strerror or error}; {READ_FIX}") from None


def read_text(path: Path, *, fix: str, most: int = MOST_BYTES) -> str:
    """The text of a file; a folder, a pipe or a device in its place is refused, as is more than `most` bytes."""
    with read_errors(path):
        size = path.stat().st_size
        if not path.is_file():
            raise DamagedError(f"{path} is no file; {fix}")
        if size > most:
            raise DamagedError(f"{path} has {size:,} bytes, and no such file has more than {most:,}; {fix}")
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise DamagedError(f"{path} is no UTF-8 text; {fix}") from None


def read_json(path: Path, *, fix: str, most: int = MOST_BYTES) -> dict[str, Any]:
    """The object in a JSON file. NaN and Infinity, which Python's reader lets pass, are no JSON."""
    text = read_text(path, fix=fix, most=most)
    try:
        content = strict_json(text)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is not JSON ({error}); {fix}") from None
    if not isinstance(content, dict):
        raise DamagedError(f"{path} holds no JSON object; {fix}")
    return content


def strict_json(text: str, *, refusal: str = "it holds {}, which is no finite number") -> Any:
    """What the text says; ValueError, with `refusal`, where it holds NaN, Infinity or a number beyond all floats."""

    def refuse(written: str) -> NoReturn:
        raise ValueError(refusal.format(written[:40]))

    def finite(written: str) -> float:
        value = float(written)
        return value if math.isfinite(value) else refuse(written)

    return json.loads(text, parse_constant=refuse, parse_float=finite)
