"""A folder's files as documents, whatever their formats; what cannot be read is counted and named.

    FolderReader(root).documents(path)  ──▶  the documents of one file: one, or one a line of .jsonl

One bad file never ends the reading of a folder, but for a line of .jsonl, which the user made for us and can mend.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ownlm.corpus.clean import clean_text, decode_text
from ownlm.corpus.document import Document
from ownlm.corpus.readers.apart import ReaderProcess
from ownlm.corpus.readers.formats import format_of, open_unpacked
from ownlm.corpus.readers.markdown_text import markdown_places
from ownlm.corpus.readers.reading import REASONS, Reading, UnreadableError
from ownlm.errors import OwnlmError

READABLE = "PDF, DOCX, EPUB, HTML, Markdown, .jsonl or UTF-8 text (each also .gz)"
# Where the text of a JSON line stands.
TEXT_KEYS = ("text", "content")
# Files that are left out are named up to so many.
NAMED = 5


class LeftOut:
    """The files that could not be read, by reason (a key of REASONS)."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}

    def add(self, name: str, reason: str) -> None:
        self.names.setdefault(reason, []).append(name)

    def counts(self) -> dict[str, int]:
        return {REASONS[reason].counted: len(names) for reason, names in self.names.items()}

    def lines(self) -> Iterator[str]:
        """One for each reason that the user can do something about."""
        for reason, names in sorted(self.names.items()):
            if REASONS[reason].fix:
                yield f"{REASONS[reason].said}, and so left out: {_first_names(names)}; {REASONS[reason].fix}"


def files_below(folder: Path) -> list[Path]:
    """All files, but for hidden ones."""
    files = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file():
            files.append(path)
    return files


class FolderReader:
    """Use it in a `with`: a process that it may have started is ended with it.

    Of a text no more than `most_bytes` is read. `counts` gathers what is lost of files that are read, `left_out` the
    files that are not.
    """

    def __init__(self, root: Path, *, most_bytes: int) -> None:
        self.root, self.most_bytes = root, most_bytes
        self.left_out = LeftOut()
        self.counts: Counter[str] = Counter()
        self._apart = ReaderProcess()

    def __enter__(self) -> "FolderReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._apart.close()

    def documents(self, path: Path) -> Iterator[Document]:
        # A file's name may be of another encoding than UTF-8, in which all of ours is stored.
        name = clean_text(path.relative_to(self.root).as_posix())
        try:
            format = format_of(path)
            if format == "json lines":
                yield from self._json_lines(path, name)
                return
            reading = self._read(path, format)
        except UnreadableError as error:
            self.left_out.add(name, error.reason)
            return
        except OSError:
            self.left_out.add(name, "forbidden")
            return
        for what, count in reading.unread:
            self.counts[what] += count
        yield from self._document(reading.text, name, kind=reading.format, places=reading.places)

    def _read(self, path: Path, format: str) -> Reading:
        if format not in ("text", "markdown"):
            return self._apart.read(path, format)
        with open_unpacked(path) as file:
            # One long file is read as far as the sample could hold it.
            data = file.read(self.most_bytes)
            if file.read(1):
                self.counts["ends of files over the size asked for"] += 1
        text = decode_text(data)
        if text is None:
            raise UnreadableError("not text")
        if format == "text":
            return Reading(text=text, format=format)
        text = clean_text(text)
        return Reading(text=text, format=format, places=markdown_places(text))

    def _json_lines(self, path: Path, name: str) -> Iterator[Document]:
        with open_unpacked(path) as file:
            for number, line in enumerate(iter(file.readline, b""), start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    raise OwnlmError(f"{path}:{number} is no JSON object; mend the line or take it out") from None
                yield from self._document(text_of(row, f"{path}:{number}"), name, lines=((0, number),))

    def _document(
        self,
        text: str,
        name: str,
        *,
        kind: str = "text",
        lines: tuple[tuple[int, int], ...] = (),
        places: tuple[tuple[int, str], ...] = (),
    ) -> Iterator[Document]:
        if not text.strip("\0\ufeff \t\r\n"):
            self.counts["empty"] += 1
            return
        yield Document(
            text=text, source="folder", path=name, kind=kind, licence="the user's own", lines=lines, places=places
        )


def text_of(row: object, place: str) -> str:
    """The text of one JSON line or data set row; OwnlmError saying `place` where there is none."""
    if isinstance(row, dict):
        for key in TEXT_KEYS:
            if isinstance(row.get(key), str):
                return str(row[key])
    raise OwnlmError(f'{place} has no "text"; give every line an object such as {{"text": "..."}}')


def _first_names(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")
