"""What a reader gives: the text of a file and where its pages or chapters begin, or the reason why there is none."""

from dataclasses import dataclass

# (character offset, name of the page, chapter or heading that begins there), ascending.
Places = tuple[tuple[int, str], ...]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """`format` is what the file turned out to be, whatever its name; `text` is clean (corpus/clean.py).

    `unread`: pages and the like that hold something, but no text, by what they are called in the plural.
    """

    text: str
    format: str
    places: Places = ()
    unread: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a file is left out: as it is counted, as it is said before the names, and what the user can do."""

    counted: str
    said: str
    fix: str


REASONS = {
    "not text": Reason(
        counted="files that are not UTF-8 text", said="not UTF-8 text", fix="save as UTF-8 what is to be read"
    ),
    "scanned": Reason(
        counted="PDF files without text", said="scanned PDF without text", fix="have OCR (ocrmypdf) add the text"
    ),
    "garbled": Reason(
        counted="PDF files whose letters have no meaning",
        said="PDF that does not say which letters it shows",
        fix="have OCR (ocrmypdf --force-ocr) read the pages",
    ),
    "encrypted": Reason(counted="encrypted files", said="encrypted", fix="save without a password what is to be read"),
    "damaged": Reason(counted="damaged files", said="damaged", fix="restore what is to be read"),
    "too large": Reason(
        counted="files over the size that is read", said="too large, packed or unpacked", fix="split what is to be read"
    ),
    "too slow": Reason(counted="files that took too long", said="too slow to read", fix="split what is to be read"),
    "other format": Reason(
        counted="documents in formats that are not read",
        said="documents in another format",
        fix="save as .docx, .pdf or text what is to be read",
    ),
    "forbidden": Reason(
        counted="files that could not be opened", said="could not be opened", fix="check who may read them"
    ),
    "another kind": Reason(counted="files of another kind", said="", fix=""),
}


class UnreadableError(Exception):
    """A file cannot be read; `reason` is a key of REASONS. Its own kind, for the folder's other files are read."""

    def __init__(self, reason: str) -> None:
        assert reason in REASONS
        super().__init__(reason)
        self.reason = reason
