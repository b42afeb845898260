"""A PDF: the lines of each page as PDFium finds them, with where they stand; pdf_text.py makes text of them.

PDFium is not safe to use from several threads and can crash on a hostile file: this runs in a process of its own
(apart.py), one file after another.
"""

import ctypes
from typing import Any

from ownlm.corpus.readers.pdf_text import Line, Page, pages_text
from ownlm.corpus.readers.reading import Reading, UnreadableError

MOST_PAGES = 20_000
# PDFium's signs for a hyphen at a line's end.
_HYPHENS = ("\ufffe", "\x02")
_GARBLED_SHARE = 0.3


def read_pdf(data: bytes) -> Reading:
    import pypdfium2 as pdfium
    import pypdfium2.raw as raw

    try:
        document = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        locked = getattr(error, "err_code", None) in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY)
        raise UnreadableError("encrypted" if locked else "damaged") from None
    if len(document) > MOST_PAGES:
        raise UnreadableError("too large")
    pages, pictures, broken = [], 0, 0
    for number in range(len(document)):
        try:
            page = document[number]
            lines = _lines(page)
        except pdfium.PdfiumError:
            broken += 1
            pages.append(Page(lines=[], height=0.0))
            continue
        if not lines:
            pictures += next(page.get_objects(filter=[raw.FPDF_PAGEOBJ_IMAGE]), None) is not None
        pages.append(Page(lines=lines, height=page.get_height()))
        page.close()
    if broken == len(pages):
        raise UnreadableError("damaged")
    letters = "".join(line.text for page in pages for line in page.lines)
    if not letters.strip():
        raise UnreadableError("scanned")
    if sum(map(_is_meaningless, letters)) > _GARBLED_SHARE * len(letters):
        raise UnreadableError("garbled")
    text, places = pages_text(pages)
    unread = (("PDF pages without text", pictures), ("damaged PDF pages", broken))
    return Reading(text=text, format="pdf", places=places, unread=tuple(pair for pair in unread if pair[1]))


def _lines(page: Any) -> list[Line]:
    """In the order in which the page's content has them."""
    import pypdfium2.raw as raw

    textpage = page.get_textpage()
    lines: list[Line] = []
    letters: list[str] = []
    first = last = -1
    count = textpage.count_chars()
    for index in range(count + 1):
        letter = _letter(raw.FPDFText_GetUnicode(textpage, index)) if index < count else "\n"
        if letter in "\r\n\u00ad":
            # Behind a hyphen of its own PDFium goes on with whatever comes next, be it the footer.
            letters.append(letter)
            if text := "".join(letters).strip():
                lines.append(_line(raw, textpage, text, first, last))
            letters, first = [], -1
            continue
        if first < 0 and not letter.isspace():
            first = index
        if not letter.isspace():
            last = index
        letters.append(letter)
    textpage.close()
    return lines


def _letter(code: int) -> str:
    letter = chr(code) if code <= 0x10FFFF else "\ufffd"
    return "\u00ad" if letter in _HYPHENS else letter


def _line(raw: Any, textpage: Any, text: str, first: int, last: int) -> Line:
    x, y = ctypes.c_double(), ctypes.c_double()
    raw.FPDFText_GetCharOrigin(textpage, first, x, y)
    _, _, right, _ = textpage.get_charbox(last)
    size = raw.FPDFText_GetFontSize(textpage, first)
    return Line(text=text, left=x.value, right=right, baseline=y.value, size=size or 1.0)


def _is_meaningless(letter: str) -> bool:
    """A sign that no text holds: a control character, a private one, the sign for what is unknown."""
    return letter == "\ufffd" or "\ue000" <= letter <= "\uf8ff" or letter < " "
