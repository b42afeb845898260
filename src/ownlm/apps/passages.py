"""A document cut into passages of about 200 words, on the borders of paragraphs, else of sentences.

    document  ──▶  sentences (start, end)  ──▶  passages, each beginning with the last words of the one before

A passage is a stretch of its document's text, character by character, and knows its file and its pages.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ownlm.corpus import Document

_WORDS = 200
_FEWEST = 140
_MOST = 260
_OVERLAP = 40
# A full stop before a capital letter, a blank line, or a line end before an item of a list.
_SENTENCE_END = re.compile(
    r"""[.!?…]+["'”’»)\]]*\s+(?=["'“‘«(\[]?[A-ZÀ-ÞА-Я0-9])|\n\s*\n\s*|\n(?=\s*(?:[-*•◦▪]|\d+[.)])\s)"""
)
_ABBREVIATION = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Nos?|Art|Sec|vs|cf|e\.g|i\.e|etc|approx|Fig|pp?)|\b[A-Z])\.$")
# With the character before it.
_LONGEST_ABBREVIATION = 16
_WORD = re.compile(r"\S+")
# Kinds whose lines are those of the file.
_WITH_LINES = ("text", "markdown")


@dataclass(frozen=True, kw_only=True)
class Passage:
    """`title`: the words of the file's name and of the headings, which say what it is about.

    `places` as a document's, counted from the passage's start; `line` is the file's, 0 where it has none.
    """

    title: str
    text: str
    file: str
    places: tuple[tuple[int, str], ...]
    line: int

    def where(self, offset: int = 0) -> str:
        """ "page 3", a chapter, a heading or a line: the nearest name for the place of character `offset`."""
        before = [name for start, name in self.places if start <= offset]
        if before:
            return before[-1]
        # A line of .jsonl holds a whole document.
        below = 0 if self.file.endswith((".jsonl", ".jsonl.gz")) else self.text.count("\n", 0, offset)
        return f"line {self.line + below}" if self.line else ""


def passages(document: Document) -> Iterator[Passage]:
    text = document.text
    pieces = list(_pieces(text))
    start = 0
    # Counted on from passage to passage: from the beginning each time, a text of 60 MB takes minutes.
    counted, line = 0, 1
    while start < len(pieces):
        end, words = start, 0
        while end < len(pieces) and (words < _FEWEST or words + pieces[end][2] <= _MOST):
            words += pieces[end][2]
            end += 1
            if words >= _WORDS or (words >= _FEWEST and _ends_paragraph(text, pieces, end)):
                break
        first, last = pieces[start][0], pieces[end - 1][1]
        counted, line = first, line + text.count("\n", counted, first)
        at = 0 if document.kind not in _WITH_LINES else document.line_at(first) if document.lines else line
        places = document.places_between(first, last)
        title = " ".join([_name_words(document.path), *(name for _, name in places if not name.startswith("page "))])
        yield Passage(title=title, text=text[first:last], file=document.path, places=places, line=at)
        if end == len(pieces):
            return
        start = max(_overlapping(pieces, end), start + 1)


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each, without the white space around."""
    start = 0
    for found in _SENTENCE_END.finditer(text):
        head = text[max(start, found.start() - _LONGEST_ABBREVIATION) : found.end()].rstrip()
        if _ABBREVIATION.search(head) and "\n\n" not in found[0]:
            continue
        if span := _trimmed(text, start, found.end()):
            yield span
        start = found.end()
    if span := _trimmed(text, start, len(text)):
        yield span


def _name_words(path: str) -> str:
    """A/2_the-report.pdf: "A 2 the report"."""
    return re.sub(r"[\W_]+", " ", path.rpartition(".")[0] or path)


def _pieces(text: str) -> Iterator[tuple[int, int, int]]:
    """(start, end, words): sentences, and what has no sentences by its words."""
    for start, end in sentences(text):
        words = [found.span() for found in _WORD.finditer(text, start, end)]
        for first in range(0, len(words), _WORDS):
            group = words[first : first + _WORDS]
            yield group[0][0], group[-1][1], len(group)


def _ends_paragraph(text: str, pieces: list[tuple[int, int, int]], end: int) -> bool:
    return end == len(pieces) or "\n" in text[pieces[end - 1][1] : pieces[end][0]]


def _overlapping(pieces: list[tuple[int, int, int]], end: int) -> int:
    """The piece at which the next passage begins."""
    start, words = end, 0
    while start > 0 and words + pieces[start - 1][2] <= _OVERLAP:
        start -= 1
        words += pieces[start][2]
    return start


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return (start, end) if start < end else None
