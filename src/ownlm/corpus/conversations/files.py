"""Files of conversations, one line after another: .jsonl, .json, each also .gz, .parquet, or a folder of them.

In:  a path. Out: (file, number, JSON value) for each line; what cannot be read goes to `problems` with its number.

A .json file is one array, or lines like .jsonl if it does not begin with "[". Files are read in the order of their
names; hidden ones are passed by, and those of another kind named.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ownlm.artefact.read import strict_json
from ownlm.corpus.conversations.problems import Problems
from ownlm.errors import OwnlmError

READABLE = ".jsonl, .json (each also .gz), .parquet"
_SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".parquet")
_ROWS = 512

Row = tuple[str, int, Any]


def chat_files(path: Path, problems: Problems) -> list[Path]:
    """The files to read: `path` itself, whatever it is called, or those below a folder."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise OwnlmError(f"no such file: {path}; check the spelling of --chat")
    files = []
    for file in sorted(path.rglob("*")):
        inner = file.relative_to(path)
        if any(part.startswith(".") for part in inner.parts) or not file.is_file():
            continue
        if file.name.lower().endswith(_SUFFIXES):
            files.append(file)
        else:
            problems.add(inner.as_posix(), 0, "file of another kind", f"is none of {READABLE}")
    if not files:
        raise OwnlmError(f"{path} holds no conversations; put {READABLE} files into it")
    return files


def read_rows(file: Path, name: str, problems: Problems) -> Iterator[Row]:
    """Every line of one file that is JSON; a file that breaks off or is none of its kind is one error."""
    try:
        if file.name.lower().endswith(".parquet"):
            yield from _parquet(file, name, problems)
        elif _is_array(file):
            yield from _array(file, name, problems)
        else:
            yield from _lines(file, name, problems)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise OwnlmError(f"cannot read {file}: {reason}; restore it, or check its permissions") from None


def _open(file: Path) -> Any:
    return gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb")


def _is_array(file: Path) -> bool:
    if not file.name.lower().removesuffix(".gz").endswith(".json"):
        return False
    with _open(file) as stream:
        start: bytes = stream.read(4096)
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _array(file: Path, name: str, problems: Problems) -> Iterator[Row]:
    with _open(file) as stream:
        data: bytes = stream.read()
    try:
        entries = strict_json(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise OwnlmError(f"{file}:{line} is not UTF-8 text; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        raise OwnlmError(
            f"{file}:{error.lineno} is not JSON ({error.msg}, column {error.colno}); mend it, or keep one line each "
            "in a .jsonl file, where a broken one is left out"
        ) from None
    except (ValueError, RecursionError) as error:
        raise OwnlmError(f"{file} is not JSON ({error}); mend it") from None
    for number, entry in enumerate(entries, start=1):
        problems.lines += 1
        yield name, number, entry


def _lines(file: Path, name: str, problems: Problems) -> Iterator[Row]:
    with _open(file) as stream:
        for number, data in enumerate(stream, start=1):
            if number == 1:
                data = data.removeprefix(b"\xef\xbb\xbf")
            if not data.strip():
                continue
            problems.lines += 1
            try:
                entry = strict_json(data.decode("utf-8"))
            except UnicodeDecodeError:
                problems.add(name, number, "not UTF-8", "is not UTF-8 text; save the file as UTF-8")
            except json.JSONDecodeError as error:
                problems.add(name, number, "not JSON", f"is not JSON ({error.msg}, column {error.colno})")
            except (ValueError, RecursionError) as error:
                problems.add(name, number, "not JSON", f"is not JSON ({error})")
            else:
                yield name, number, entry


def _parquet(file: Path, name: str, problems: Problems) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            number = 0
            for batch in table.iter_batches(batch_size=_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    problems.lines += 1
                    yield name, number, row
    except pa.ArrowException as error:
        raise OwnlmError(f"cannot read {file}: {' '.join(str(error).split())[:200]}; restore it") from None
