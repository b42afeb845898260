"""The record of a run: append-only JSON lines that the terminal, the page and the report read.

Events carry a schema version `v`, a name, the step and the time (unix seconds). A line cut short by a
power failure is dropped on reading and mended on the next append.
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ownlm.artefact.write import disk_errors, write_atomically

SCHEMA_VERSION = 1

# Hears every event of a run as it is recorded.
Watch = Callable[[dict[str, Any]], None]


class Events:
    """Appends to one .jsonl file, a line an event, flushed as it is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _drop_cut_line(path)

    def write(self, event: str, step: int, **facts: Any) -> dict[str, Any]:
        record = {"v": SCHEMA_VERSION, "event": event, "step": step, "time": round(time.time(), 3), **facts}
        self.append(record)
        return record

    def append(self, record: dict[str, Any]) -> None:
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        with disk_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line)

    def forget_after(self, step: int) -> None:
        """Drop what lies after `step`: a run that resumes from there will write it again."""
        kept = [record for record in read_events(self.path) if record["step"] <= step]
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)
        write_atomically(self.path, text)


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line of `path`; nothing when there is no such file."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def _drop_cut_line(path: Path) -> None:
    if not path.is_file() or not (data := path.read_bytes()) or data.endswith(b"\n"):
        return
    write_atomically(path, data[: data.rfind(b"\n") + 1])
