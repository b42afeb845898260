"""A Word document (DOCX): paragraphs, tables row by row, notes at the end; headings name the places.

What was inserted under "track changes" is read, what was deleted is not. Headers, footers and comments are left out.
"""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

from ownlm.corpus.clean import clean_text
from ownlm.corpus.readers.bounds import open_zip
from ownlm.corpus.readers.markdown_text import MOST_NAME
from ownlm.corpus.readers.reading import Reading, UnreadableError

_NOTES = ("/footnotes", "/endnotes")
# What stands around blocks and runs and is not itself text.
_WRAPPERS = {"sdt", "sdtContent", "ins", "moveTo", "customXml", "smartTag", "hyperlink", "fldSimple", "dir", "bdo", "r"}
_SIGNS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def read_docx(data: bytes) -> Reading:
    from docx import Document as open_docx
    from docx.oxml import parse_xml

    open_zip(data).close()
    try:
        document = open_docx(BytesIO(data))
        headings = {style.style_id for style in document.styles if (style.name or "").startswith(("Heading", "Title"))}
        blocks = list(_blocks(document.element.body, headings))
        for related in document.part.rels.values():
            if related.reltype.endswith(_NOTES) and not related.is_external:
                for note in parse_xml(related.target_part.blob):
                    blocks += _blocks(note, set())
    except UnreadableError:
        raise
    except Exception as error:  # python-docx raises whatever it stumbles over: KeyError, ValueError, lxml's own
        raise UnreadableError("damaged") from error
    parts: list[str] = []
    places: list[tuple[int, str]] = []
    offset = 0
    for text, is_heading in blocks:
        text = clean_text(text).strip()
        if text:
            if is_heading:
                places.append((offset, " ".join(text.split())[:MOST_NAME]))
            parts.append(text)
            offset += len(text) + 2
    return Reading(text="\n\n".join(parts), format="docx", places=tuple(places))


def _blocks(element: Any, headings: set[str]) -> Iterator[tuple[str, bool]]:
    """(text, is a heading) of each paragraph and each table row below `element`, in order."""
    for child in element:
        name = _name(child)
        if name == "p":
            boxes: list[Any] = []
            text = "".join(_runs(child, boxes))
            yield text, child.style in headings
            for box in boxes:
                yield from _blocks(box, headings)
        elif name == "tbl":
            for row in child.iterchildren("{*}tr"):
                cells = [" ".join(text for text, _ in _blocks(cell, set())) for cell in row.iterchildren("{*}tc")]
                yield " | ".join(cell.replace("\n", " ").strip() for cell in cells), False
        elif name in _WRAPPERS:
            yield from _blocks(child, headings)


def _runs(element: Any, boxes: list[Any]) -> Iterator[str]:
    """The text below `element`; text boxes that hang on it are put into `boxes`."""
    for child in element:
        name = _name(child)
        if name == "t":
            yield child.text or ""
        elif name in _SIGNS:
            yield _SIGNS[name]
        elif name in _WRAPPERS:
            yield from _runs(child, boxes)
        elif name in ("drawing", "pict", "AlternateContent"):
            # An older program's copy of the same box stands beside it.
            boxes += list(child.iter("{*}txbxContent"))[:1]


def _name(element: Any) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
