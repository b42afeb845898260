"""Lines on pages into text: what repeats at the edges goes, lines become paragraphs, words cut at a line's end whole.

    pages of lines  ──▶  without headers, footers, page numbers  ──▶  paragraphs  ──▶  text, and where each page begins

The rules:
- A line within an eighth of the page's height from its top or bottom is dropped where the same words stand at the same
  height on two other pages too (on the other, if there are two), apart from one number that counts with the pages.
- A line goes on the paragraph before it unless it is set in another size, stands further below than lines usually do,
  begins further right (but behind a bullet), begins with a bullet, or follows a line that ends early with a full stop.
- A paragraph goes on over a page's end where it ends in no full stop and the next begins in a small letter.
- "exam-" and "ple" are "example", unless the text has "exam-ple" within a line and "example" nowhere.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

from ownlm.corpus.clean import clean_text
from ownlm.corpus.readers.reading import Places

_EDGE = 0.125
_SAME_HEIGHT = 6.0
_PAGES_TO_REPEAT = 3
_MORE_THAN_USUAL = 1.2
_INDENT = 0.8
_EARLY = 0.85
_BULLET = re.compile(r"(?:[•◦▪‣●○■□–—*·-]|\(?(?:\d{1,3}|[a-z]|[ivx]{1,5})[.)])\s")
_SENTENCE_END = re.compile(r"[.!?:;…][\"'”’»)\]]*$")
_NUMBER = re.compile(r"\d+")
_ROMAN = re.compile(r"[ivxlc]+")
_ROMAN_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_CUT_WORD = re.compile(r"([^\W\d_]+)[-\u2010]$")
_LINKS = ("and", "or", "to", "und", "oder", "bis", "et", "ou")
_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st", "\u00a0": " "}
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """`left`, `right` and `baseline` in points from the page's lower left; `size` of its font."""

    text: str
    left: float
    right: float
    baseline: float
    size: float


@dataclass(frozen=True, kw_only=True)
class Page:
    lines: list[Line]
    height: float


def pages_text(pages: list[Page]) -> tuple[str, Places]:
    """Paragraphs with blank lines between them, and the offset of each page that has text."""
    dropped = _repeated(pages)
    kept = [[line for line in page.lines if (number, id(line)) not in dropped] for number, page in enumerate(pages)]
    usual = _usual_leading(kept)
    known = Counter(word.lower() for lines in kept for line in lines for word in _WORD.findall(_plain(line.text)))
    paragraphs: list[str] = []
    # (paragraph, offset in it) at which each page begins.
    begins: list[tuple[int, int, str]] = []
    for number, lines in enumerate(kept, start=1):
        for count, paragraph in enumerate(_paragraphs(lines, usual, known)):
            offset = 0
            goes_on = count == 0 and paragraphs and paragraph[:1].islower() and not _SENTENCE_END.search(paragraphs[-1])
            if goes_on:
                paragraphs[-1], offset = _joined(paragraphs[-1], paragraph, known)
            else:
                paragraphs.append(paragraph)
            if count == 0:
                begins.append((len(paragraphs) - 1, offset, f"page {number}"))
    starts = list(accumulate((len(paragraph) + 2 for paragraph in paragraphs), initial=0))
    return "\n\n".join(paragraphs), tuple((starts[which] + offset, name) for which, offset, name in begins)


def _repeated(pages: list[Page]) -> set[tuple[int, int]]:
    """(page, id of line) of every header, footer and page number."""
    seen: dict[tuple[str, bool], list[tuple[int, float, int]]] = {}
    for number, page in enumerate(pages):
        for line in page.lines:
            at_top = line.baseline > (1 - _EDGE) * page.height
            if at_top or line.baseline < _EDGE * page.height:
                for key in _edge_keys(line.text, number):
                    seen.setdefault((key, at_top), []).append((number, line.baseline, id(line)))
    enough = min(_PAGES_TO_REPEAT, max(len(pages), 2))
    dropped: set[tuple[int, int]] = set()
    for found in seen.values():
        if len({number for number, _, _ in found}) < enough:
            continue
        for number, height, which in found:
            same = {other for other, its_height, _ in found if abs(its_height - height) <= _SAME_HEIGHT}
            if len(same) >= enough:
                dropped.add((number, which))
    return dropped


def _edge_keys(text: str, page: int) -> Iterator[str]:
    """The line itself, and for each number in it the line with that number as its distance from the page's."""
    text = " ".join(text.split())
    yield text
    for number in _NUMBER.finditer(text):
        if len(number[0]) < 6:
            yield f"{text[: number.start()]}#{int(number[0]) - page}#{text[number.end() :]}"
    if _ROMAN.fullmatch(text):
        values = [_ROMAN_VALUES[letter] for letter in text]
        after = [*values[1:], 0]
        total = sum(-value if value < behind else value for value, behind in zip(values, after, strict=True))
        yield f"#{total - page}#"


def _usual_leading(pages: list[list[Line]]) -> float:
    """The commonest distance between lines, in sizes of their font."""
    steps = Counter(
        round((above.baseline - below.baseline) / above.size, 1)
        for lines in pages
        for above, below in pairwise(lines)
        if 0.8 < (above.baseline - below.baseline) / above.size < 3
    )
    return min(steps, key=lambda step: (-steps[step], step)) if steps else 1.2


def _paragraphs(lines: list[Line], usual: float, known: Counter[str]) -> Iterator[str]:
    text = ""
    before: Line | None = None
    block_right = max((line.right for line in lines), default=0.0)
    bulleted = False
    for line in lines:
        if before is not None and _goes_on(before, line, usual, block_right, bulleted):
            text, _ = _joined(text, _plain(line.text), known)
        else:
            if text:
                yield text
            text = _plain(line.text)
            bulleted = bool(_BULLET.match(text))
        before = line
    if text:
        yield text


def _goes_on(before: Line, line: Line, usual: float, block_right: float, bulleted: bool) -> bool:
    if abs(before.size - line.size) > 0.1 * before.size or _BULLET.match(line.text):
        return False
    step = (before.baseline - line.baseline) / before.size
    if abs(step) < 0.3:
        return True  # the same line, further right
    if step < 0:
        # Up again: another column.
        return not _SENTENCE_END.search(before.text) and line.text[:1].islower()
    if step > _MORE_THAN_USUAL * usual + 0.05:
        return False
    if line.left - before.left > _INDENT * line.size and not bulleted:
        return False
    width = block_right - min(before.left, line.left)
    ends_early = before.right - line.left < _EARLY * width
    return not (ends_early and _SENTENCE_END.search(before.text))


def _joined(text: str, more: str, known: Counter[str]) -> tuple[str, int]:
    """Both as one, and the offset at which `more` begins in it."""
    cut = _CUT_WORD.search(text)
    rest = _WORD.match(more)
    # "pre- and postwar" was never one word.
    if not (cut and rest) or rest[0] in _LINKS:
        return f"{text} {more}", len(text) + 1
    hyphenated, whole = f"{cut[1]}-{rest[0]}".lower(), f"{cut[1]}{rest[0]}".lower()
    if more[:1].islower() and not (known[hyphenated] and not known[whole]):
        text = text[: cut.end(1)]
    return text + more, len(text)


def _plain(text: str) -> str:
    text = " ".join(clean_text(text.translate(_LIGATURES)).split())
    if text.endswith("\u00ad"):
        text = f"{text[:-1]}-"
    return text.replace("\u00ad", "")
