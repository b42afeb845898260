"""An EPUB book: its chapters in the order of the spine, each by the HTML reader.

META-INF/container.xml  ──▶  package file (manifest, spine)  ──▶  chapter after chapter
"""

import posixpath
import re
import zipfile
from urllib.parse import unquote
from xml.etree import ElementTree

from ownlm.corpus.readers.bounds import open_zip
from ownlm.corpus.readers.html_page import page_text
from ownlm.corpus.readers.markdown_text import MOST_NAME
from ownlm.corpus.readers.reading import Reading, UnreadableError

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_CHAPTER_TYPES = ("application/xhtml+xml", "text/html", "application/xml")
# No book needs entities of its own, and they can be made to grow without end.
_ENTITY = re.compile(rb"<!\s*E\0?N\0?T\0?I\0?T\0?Y", re.IGNORECASE)


def read_epub(data: bytes) -> Reading:
    parts: list[str] = []
    places: list[tuple[int, str]] = []
    offset = 0
    with open_zip(data) as archive:
        for number, chapter in enumerate(_chapters(archive), start=1):
            text, headings, title = page_text(chapter, main_content=False)
            if not text:
                continue
            name = headings[0][1] if headings else title
            places.append((offset, f"chapter {number}{f' ({name})' if name else ''}"[:MOST_NAME]))
            parts.append(text)
            offset += len(text) + 2
    return Reading(text="\n\n".join(parts), format="epub", places=tuple(places))


def _chapters(archive: zipfile.ZipFile) -> list[bytes]:
    container = _xml(archive, _CONTAINER)
    package_name = next((e.get("full-path", "") for e in container.iter() if _tag(e) == "rootfile"), "")
    package = _xml(archive, package_name)
    folder = posixpath.dirname(package_name)
    files: dict[str, str] = {}
    for item in package.iter():
        is_page = _tag(item) == "item" and item.get("media-type") in _CHAPTER_TYPES
        # The table of contents is no chapter.
        if is_page and "nav" not in (item.get("properties") or "").split():
            name = unquote((item.get("href") or "").partition("#")[0])
            files[item.get("id") or ""] = posixpath.normpath(posixpath.join(folder, name))
    spine = [files.get(item.get("idref") or "") for item in package.iter() if _tag(item) == "itemref"]
    # A spine that names one chapter many times would be a bomb.
    names = list(dict.fromkeys(name for name in spine if name))
    if _ENCRYPTION in archive.namelist():
        locked = (e.get("URI") for e in _xml(archive, _ENCRYPTION).iter() if _tag(e) == "CipherReference")
        if not {unquote(name or "") for name in locked}.isdisjoint(names):
            raise UnreadableError("encrypted")
    return [_member(archive, name) for name in names]


def _xml(archive: zipfile.ZipFile, name: str) -> ElementTree.Element:
    data = _member(archive, name)
    if _ENTITY.search(data):
        raise UnreadableError("damaged")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError):
        raise UnreadableError("damaged") from None


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (KeyError, zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError):
        raise UnreadableError("damaged") from None
    except Exception as error:  # zlib.error and lzma.LZMAError: modules that a Python can lack
        raise UnreadableError("damaged") from error


def _tag(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]
