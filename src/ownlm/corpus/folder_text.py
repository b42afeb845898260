"""The user's own text: .txt, .md and .jsonl files (also .gz) of a folder, as documents.

In:  a folder (or one file) and how many megabytes to keep.
Out: a sample of whole documents, drawn by name, and how many were left out, by reason.

Files are read one after another, and only the sample is kept: a folder larger than memory is no trouble.
"""

import gzip
import heapq
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ownlm.corpus.clean import clean_text, decode_text
from ownlm.corpus.document import Document
from ownlm.corpus.split import fraction, split_into_parts
from ownlm.errors import OwnlmError

_TEXT_SUFFIXES = (".txt", ".md", ".txt.gz", ".md.gz")
_LINE_SUFFIXES = (".jsonl", ".jsonl.gz")
READABLE = "UTF-8 .txt, .md, .jsonl (each also .gz)"
NOT_TEXT = "files that are not UTF-8 text"
# Files that are left out are named up to so many.
NAMED = 5
# Where the text of a JSON line stands.
TEXT_KEYS = ("text", "content")
# With fewer documents than this, they are cut into parts: a whole one held out would be most of the text.
FEWEST_DOCUMENTS = 20
_PARTS_WANTED = 100
_PART_CHARACTERS = (2_000, 64_000)


def gather_folder(
    location: Path, *, most_bytes: int, seed: int, dropped: Counter[str], report: Callable[[str], None]
) -> list[Document]:
    """The documents below `location`, at most about `most_bytes` of them; long ones in parts if they are few."""
    if not location.exists():
        raise OwnlmError(f"no such folder: {location}; check the spelling of --text")
    files = [location] if location.is_file() else _files_below(location, dropped)
    if not files:
        raise OwnlmError(f"{location} has no text to learn from; put {READABLE} files into it")
    root = location.parent if location.is_file() else location
    not_text: list[str] = []
    stream = (document for file in files for document in _read_file(file, root, most_bytes, dropped, not_text))
    documents, seen = sample_documents(stream, most_bytes=most_bytes, seed=seed, dropped=dropped)
    if not_text:
        dropped[NOT_TEXT] = len(not_text)
        report(f"not UTF-8 text, and so left out: {_first_names(not_text)}; save as UTF-8 what is to be read")
    # Cleaned only now: most of a large folder is not in the sample.
    documents = [replace(document, text=clean_text(document.text)) for document in documents]
    if not documents:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items()))
        raise OwnlmError(f"{location} has no text to learn from ({reasons}); put {READABLE} files into it")
    if len(documents) < seen:
        report(f"{len(documents):,} of {seen:,} documents are kept, a fair sample of {most_bytes / 1e6:.0f} MB")
    return in_parts(documents, report)


def sample_documents(
    stream: Iterable[Document], *, most_bytes: int, seed: int, dropped: Counter[str]
) -> tuple[list[Document], int]:
    """The documents with the smallest keys that fit, whatever order they come in, and how many there were.

    The largest key leaves first when there is too much, so that memory holds the sample and one document more.
    """
    kept: list[tuple[float, int, Document]] = []
    total = seen = 0
    for seen, document in enumerate(stream, start=1):
        heapq.heappush(kept, (-fraction(seed, "sample", document.name), seen, document))
        total += document.size
        while total > most_bytes and len(kept) > 1:
            total -= heapq.heappop(kept)[2].size
            dropped["over the size asked for"] += 1
    return [document for _, _, document in sorted(kept, key=lambda entry: (-entry[0], entry[1]))], seen


def in_parts(documents: list[Document], report: Callable[[str], None]) -> list[Document]:
    """Few documents are cut into parts at blank lines, whole parts of which can then be held out."""
    if len(documents) >= FEWEST_DOCUMENTS:
        return documents
    total = sum(len(document.text) for document in documents)
    fewest, most = _PART_CHARACTERS
    part = min(max(total // _PARTS_WANTED, fewest), most)
    parts = [piece for document in documents for piece in split_into_parts(document, part)]
    if len(parts) > len(documents):
        count = "1 document is" if len(documents) == 1 else f"{len(documents)} documents are"
        report(f"{count} cut into {len(parts)} parts at blank lines, so that whole parts can be held out")
    return parts


def text_of(row: object, place: str) -> str:
    """The text of one JSON line or data set row; OwnlmError saying `place` where there is none."""
    if isinstance(row, dict):
        for key in TEXT_KEYS:
            if isinstance(row.get(key), str):
                return str(row[key])
    raise OwnlmError(f'{place} has no "text"; give every line an object such as {{"text": "..."}}')


def _files_below(folder: Path, dropped: Counter[str]) -> list[Path]:
    files = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file():
            continue
        if path.name.lower().endswith(_TEXT_SUFFIXES + _LINE_SUFFIXES):
            files.append(path)
        else:
            dropped["files of another kind"] += 1
    return files


def _first_names(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _read_file(
    path: Path, root: Path, most_bytes: int, dropped: Counter[str], not_text: list[str]
) -> Iterator[Document]:
    # A file's name may be of another encoding than UTF-8, in which all of ours is stored.
    name = clean_text(path.relative_to(root).as_posix())
    try:
        if path.name.lower().endswith(_LINE_SUFFIXES):
            yield from _read_lines(path, name, dropped)
            return
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            # One long file is read as far as the sample could hold it.
            data = file.read(most_bytes)
            if file.read(1):
                dropped["ends of files over the size asked for"] += 1
    except (OSError, EOFError, zlib.error) as error:
        raise OwnlmError(f"cannot read {path}: {error}; restore the file or take it out of the folder") from None
    text = decode_text(data)
    if text is None:
        not_text.append(name)
        return
    yield from _document(text, name, (), dropped)


def _read_lines(path: Path, name: str, dropped: Counter[str]) -> Iterator[Document]:
    with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                raise OwnlmError(f"{path}:{number} is no JSON object; mend the line or take it out") from None
            yield from _document(text_of(row, f"{path}:{number}"), name, ((0, number),), dropped)


def _document(text: str, name: str, lines: tuple[tuple[int, int], ...], dropped: Counter[str]) -> Iterator[Document]:
    if not text.strip("\0\ufeff \t\r\n"):
        dropped["empty"] += 1
        return
    yield Document(text=text, source="folder", path=name, kind="text", licence="the user's own", lines=lines)
