"""The files of a batch: prompts line by line, answers line by line, and how it goes on after it was stopped.

prompts.jsonl                          read again from the first line that has no answer yet
answers.jsonl             ......|..    one line for each, in order; a last line that is torn is cut off
answers.jsonl.state.json               there until the last answer: what the answers are made from
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

from ownlm.artefact.folder import move_aside
from ownlm.artefact.lock import try_lock
from ownlm.artefact.read import strict_json
from ownlm.artefact.write import disk_errors, fsync_folder, write_atomically
from ownlm.errors import OwnlmError

# A line is held in memory: this is a book of several volumes.
MOST_LINE_BYTES = 2**25
_CHUNK = 2**20
_FIX = "free some space or name another --output"
# Where none of so many lines is a JSON object the file is something else altogether.
_TRIED_LINES = 100


@dataclass(frozen=True, kw_only=True)
class Prompts:
    path: Path
    count: int
    sha256: str

    def lines(self, first: int) -> Iterator[bytes]:
        """The lines from the `first`-th on, without their ends; a longer one is cut behind MOST_LINE_BYTES."""
        with self.path.open("rb") as file:
            yield from islice(_lines(file), first, self.count)


def open_prompts(path: Path) -> Prompts:
    """OwnlmError where there is nothing to answer. A line that is wrong among others is no matter."""
    with path.open("rb") as file:
        digest, count, last = hashlib.sha256(), 0, b"\n"
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            count, last = count + chunk.count(b"\n"), chunk[-1:]
        count += last != b"\n"
        file.seek(0)
        faults = [_fault(line) for line in islice(_lines(file), _TRIED_LINES)]
    if not count:
        raise OwnlmError(f'{path} is empty; write lines such as {{"prompt": "Once upon"}}')
    if all(faults):
        raise OwnlmError(f'{path} holds no lines such as {{"prompt": "Once upon"}}: the first {faults[0]}')
    return Prompts(path=path, count=count, sha256=digest.hexdigest())


def check_places(source: Path, out: Path) -> None:
    """OwnlmError where `source` cannot be read or `out` not be written, whatever they hold."""
    if not source.is_file():
        what = f"{source} is no plain file" if source.exists() else f"no such file: {source}"
        raise OwnlmError(f"{what}; --input takes a file of JSON lines")
    if out.is_dir() or not out.parent.is_dir():
        raise OwnlmError(f"{out} is a folder or lies in none that exists; --output takes a file's name")
    if out.is_symlink() or (out.exists() and not out.is_file()):
        raise OwnlmError(f"{out} is a link or a device; --output takes a file's name")
    if out.exists() and out.samefile(source):
        raise OwnlmError(f"{out} is the input itself; name another --output")


class Answers:
    """OUT while it is being written; `done` lines of it are there already."""

    def __init__(self, out: Path, made_from: Mapping[str, Any], *, force: bool) -> None:
        """`made_from` decides what the answers are: where it has changed, what was begun is not gone on with."""
        self.out, self.state = out, out.with_name(f"{out.name}.state.json")
        content = json.dumps(made_from, indent=1, sort_keys=True) + "\n"
        with disk_errors(out, fix=_FIX):
            self.file, self.done = self._go_on(content, force) or self._begin(content)

    def write(self, record: Mapping[str, Any]) -> None:
        with disk_errors(self.out, fix=_FIX):
            self.file.write(_as_line(record))
            # So that the line is there also when this process is killed.
            self.file.flush()

    def finish(self) -> None:
        """Every line is there."""
        with disk_errors(self.out, fix=_FIX):
            os.fsync(self.file.fileno())
            self.state.unlink(missing_ok=True)
            fsync_folder(self.out.parent)

    def close(self) -> None:
        self.file.close()

    def _go_on(self, content: str, force: bool) -> tuple[BinaryIO, int] | None:
        """What was begun, if it was begun so; None where there is nothing, or it was moved aside."""
        if not self.out.exists():
            return None
        file = _locked(self.out, "r+b")
        begun = self.state.read_text(encoding="utf-8", errors="replace") if self.state.is_file() else ""
        if begun == content:
            return file, _cut_torn_line(file)
        file.close()
        if not force and not begun:
            raise OwnlmError(f"{self.out} exists already; name another --output, or add --force to move it aside")
        if not force:
            raise OwnlmError(
                f"{self.out} was begun with another {_changed(begun, content)}; give the same again, name another "
                "--output, or add --force to move it aside"
            )
        move_aside(self.out)
        return None

    def _begin(self, content: str) -> tuple[BinaryIO, int]:
        # Who comes second finds the file and stops: only the first says what it is made from.
        file = _locked(self.out, "xb")
        write_atomically(self.state, content)
        return file, 0


def read_object(line: bytes) -> dict[str, Any]:
    """The JSON object of a line; OwnlmError says what it is instead."""
    if len(line) > MOST_LINE_BYTES:
        raise OwnlmError(f"is longer than {MOST_LINE_BYTES:,} bytes")
    if not line.strip():
        raise OwnlmError("is empty")
    try:
        # Of bytes json would guess the encoding.
        read = strict_json(line.decode("utf-8-sig"), refusal="{} is no finite number")
    except (ValueError, RecursionError) as error:
        raise OwnlmError(f"is no JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(read, dict):
        raise OwnlmError(f"is no JSON object but a {type(read).__name__}")
    return read


def _fault(line: bytes) -> str | None:
    try:
        read_object(line)
    except OwnlmError as error:
        return str(error)
    return None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(MOST_LINE_BYTES + 2):
        rest = line
        while not rest.endswith(b"\n") and (rest := file.readline(_CHUNK)):
            pass
        yield line.removesuffix(b"\n")


def _locked(path: Path, mode: Literal["r+b", "xb"]) -> BinaryIO:
    """The file, which this process alone writes until it is closed."""
    file: BinaryIO = path.open(mode)
    if not try_lock(file.fileno()):
        file.close()
        raise OwnlmError(f"another ownlm process is writing {path}; wait for it, or name another --output")
    return file


def _cut_torn_line(file: BinaryIO) -> int:
    """How many whole lines there are; the file then ends behind them."""
    count = place = end = 0
    while chunk := file.read(_CHUNK):
        if b"\n" in chunk:
            count, end = count + chunk.count(b"\n"), place + chunk.rindex(b"\n") + 1
        place += len(chunk)
    file.truncate(end)
    file.seek(end)
    return count


def _as_line(record: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        # Half a character that a line was named by can only be written as a number.
        text = json.dumps(record).encode()
    return text + b"\n"


def _changed(begun: str, content: str) -> str:
    try:
        before, now = json.loads(begun), json.loads(content)
        return " and ".join(name for name in now if before.get(name) != now[name])
    except (ValueError, AttributeError):
        return "version of ownlm"
