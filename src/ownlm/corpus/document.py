"""A document: one text with where it came from, and the table that keeps many of them.

In:  documents from any reader.
Out: documents.parquet in a corpus folder, one row a document, and the same documents read back as a stream.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ownlm.artefact import read_card

DOCUMENTS_FILE = "documents.parquet"
_ROWS_A_GROUP = 512

_SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("source", pa.string()),
        ("path", pa.string()),
        ("kind", pa.string()),
        ("licence", pa.string()),
        ("split", pa.string()),
        ("slice", pa.string()),
        ("line_offsets", pa.list_(pa.int32())),
        ("line_numbers", pa.list_(pa.int32())),
        ("place_offsets", pa.list_(pa.int32())),
        ("place_names", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text. `lines` holds (character offset, line in the source file), ascending.

    Between two entries the source's lines run along with the text's. Empty: the text is the file from line 1.
    `places` holds (character offset, what begins there), ascending: a page of a PDF, a chapter, a heading.
    """

    text: str
    source: str
    path: str
    kind: str
    licence: str = ""
    split: str = "train"
    slice: str = ""
    lines: tuple[tuple[int, int], ...] = ()
    places: tuple[tuple[int, str], ...] = ()

    @property
    def size(self) -> int:
        """Length in UTF-8 bytes: what megabytes and bits per byte count."""
        # A lone surrogate, which JSON may hold, becomes three bytes of U+FFFD when it is cleaned.
        return len(self.text) if self.text.isascii() else len(self.text.encode(errors="surrogatepass"))

    @property
    def name(self) -> str:
        """What tells this document from every other: several can come from one file."""
        first_line = self.lines[0][1] if self.lines else 1
        return f"{self.source}:{self.path}:{self.kind}:{first_line}"

    def line_at(self, offset: int) -> int:
        """The line of the source file where character `offset` of the text stands (0: it has no file)."""
        offsets = [start for start, _ in self.lines]
        place = bisect_right(offsets, offset) - 1
        start, line = self.lines[place] if place >= 0 else (0, 1)
        # A JSON line holds its whole document on one line, and compiled modules have no lines at all.
        if line == 0 or self.path.endswith((".jsonl", ".jsonl.gz")):
            return line
        return line + self.text.count("\n", start, offset)

    def place_at(self, offset: int) -> str:
        """The page, chapter or heading under which character `offset` stands; empty where there is none."""
        which = bisect_right([start for start, _ in self.places], offset) - 1
        return self.places[which][1] if which >= 0 else ""

    def places_between(self, start: int, end: int) -> tuple[tuple[int, str], ...]:
        """The places of the text from `start` to `end`, counted from `start`."""
        first = self.place_at(start)
        within = [(offset - start, name) for offset, name in self.places if start < offset < end]
        return ((0, first), *within) if first else tuple(within)


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """The table, in the order given; equal documents give equal bytes."""
    stream = iter(documents)
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        while group := list(islice(stream, _ROWS_A_GROUP)):
            rows = [
                {
                    "text": document.text,
                    "source": document.source,
                    "path": document.path,
                    "kind": document.kind,
                    "licence": document.licence,
                    "split": document.split,
                    "slice": document.slice,
                    "line_offsets": [offset for offset, _ in document.lines],
                    "line_numbers": [line for _, line in document.lines],
                    "place_offsets": [offset for offset, _ in document.places],
                    "place_names": [name for _, name in document.places],
                }
                for document in group
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))


def read_documents(folder: Path, *, split: str | None = None, slice: str | None = None) -> Iterator[Document]:
    """The documents of a corpus folder, in order, perhaps of one split or slice only."""
    read_card(folder, kind="corpus")
    with pq.ParquetFile(folder / DOCUMENTS_FILE) as table:
        for batch in table.iter_batches(batch_size=_ROWS_A_GROUP):
            for row in batch.to_pylist():
                if split not in (None, row["split"]) or slice not in (None, row["slice"]):
                    continue
                lines = zip(row.pop("line_offsets"), row.pop("line_numbers"), strict=True)
                # Corpora of an earlier version have no places.
                places = zip(row.pop("place_offsets", ()), row.pop("place_names", ()), strict=True)
                yield Document(**row, lines=tuple(lines), places=tuple(places))
