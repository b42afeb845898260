"""What a file is, by its content; its name decides only what cannot be told so.

    first bytes, members of a zip  ──▶  "pdf", "docx", "epub", "html", "json lines", "markdown", "text"

A gzipped file is what it holds. Text is never sure: JSON lines, Markdown and what machines write (style sheets, data)
are known by their names, and every other UTF-8 text is text, program code too.
"""

import gzip
import io
import re
import zipfile
import zlib
from pathlib import Path

from ownlm.corpus.clean import decode_text
from ownlm.corpus.readers.reading import UnreadableError

SNIFFED = 65_536
# A PDF's mark may stand behind other bytes (ISO 32000, annex H, note 13).
_PDF_MARK_WITHIN = 1024
_OLD_OFFICE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_OFFICE = "EncryptedPackage".encode("utf-16-le")
_HTML = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_NAMES_OF_TEXT = (".txt", ".text", ".md", ".markdown", ".jsonl", ".rst", ".html", ".htm", ".xhtml")
_NAMES_OF_HTML = (".html", ".htm", ".xhtml")
_NAMES_OF_DATA = (".css", ".js", ".mjs", ".json", ".map", ".svg", ".xml", ".csv", ".tsv", ".ipynb", ".lock", ".po")
_NAMES_OF_DOCUMENTS = (".rtf", ".ps", ".odt", ".doc", ".mobi", ".azw", ".azw3", ".djvu", ".ppt", ".xls")


def plain_name(path: Path) -> str:
    """The name as it decides: in small letters, without .gz."""
    return path.name.lower().removesuffix(".gz")


def first_bytes(path: Path) -> bytes:
    """Enough to tell what a file is, unpacked if it is gzipped."""
    with open_unpacked(path) as file:
        return file.read(SNIFFED)


def open_unpacked(path: Path) -> io.BufferedIOBase:
    """The file, or what its gzip holds."""
    file = path.open("rb")
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return _Unpacked(file) if packed else file


class _Unpacked(gzip.GzipFile):
    """A gzip file that closes what it reads from, and whose damage is a file's."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        super().__init__(fileobj=file)
        self._file = file

    def read(self, size: int | None = -1) -> bytes:
        try:
            return super().read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise UnreadableError("damaged") from None

    def readline(self, size: int | None = -1) -> bytes:
        try:
            return super().readline(size)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise UnreadableError("damaged") from None

    def close(self) -> None:
        super().close()
        self._file.close()


def format_of(path: Path) -> str:
    """One of the formats above. UnreadableError for what is none of them."""
    start = first_bytes(path)
    name = plain_name(path)
    if b"%PDF-" in start[:_PDF_MARK_WITHIN]:
        return "pdf"
    if start.startswith(b"PK\x03\x04"):
        return _zip_format(path, name)
    if start.startswith(_OLD_OFFICE):
        raise UnreadableError("encrypted" if _ENCRYPTED_OFFICE in start else "other format")
    if start.startswith((b"{\\rtf", b"%!PS", b"AT&TFORM")) or b"BOOKMOBI" in start[:128]:
        raise UnreadableError("other format")
    if _HTML.match(start.removeprefix(b"\xef\xbb\xbf")):
        return "html"
    return _text_format(start, name)


def _zip_format(path: Path, name: str) -> str:
    try:
        with open_unpacked(path) as file, zipfile.ZipFile(file) as archive:
            members = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise UnreadableError("damaged" if name.endswith((".docx", ".epub")) else "another kind") from None
    if "[Content_Types].xml" in members and any(member.startswith("word/") for member in members):
        return "docx"
    if "META-INF/container.xml" in members:
        return "epub"
    is_document = "[Content_Types].xml" in members or "mimetype" in members
    raise UnreadableError("other format" if is_document else "another kind")


def _text_format(start: bytes, name: str) -> str:
    if name.endswith((".pdf", ".docx", ".epub")):
        raise UnreadableError("damaged")
    if decode_text(start) is None:
        if name.endswith(_NAMES_OF_HTML):
            return "html"  # which may say its own encoding
        if name.endswith(_NAMES_OF_TEXT):
            raise UnreadableError("not text")
        raise UnreadableError("other format" if name.endswith(_NAMES_OF_DOCUMENTS) else "another kind")
    if name.endswith(".jsonl"):
        return "json lines"
    if name.endswith(_NAMES_OF_DATA):
        raise UnreadableError("another kind")
    if name.endswith(_NAMES_OF_HTML):
        return "html"
    return "markdown" if name.endswith((".md", ".markdown")) else "text"
