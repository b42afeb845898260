"""Where an answer stands word for word in what the model was trained on.

In:  the training split of a corpus, perhaps the conversations, and an answer.
Out: the longest stretches of the answer that stand there, with file and line or page. A match is not a cause.

The text is read as aligned blocks of eight bytes, sorted once:

    training text   |def read|_all(se|lf):\\n   |  return|      any 15 bytes contain a whole block
    answer             f read_all(self):                        so each of its 8-byte windows is looked up,
                           ^^^^^^^^                             and hits are extended both ways
"""

import json
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ownlm.artefact import read_card
from ownlm.corpus.document import Document, read_documents

_BLOCK = 8
# Shorter matches could hide between two blocks.
_SHORTEST = 2 * _BLOCK - 1
# Blocks of white space stand a hundred thousand times in code. A longer match is met at a rarer block of it.
_MOST_PLACES = 4_000


@dataclass(frozen=True, kw_only=True)
class Match:
    """A stretch of the answer, and one place in the training text where it stands."""

    text: str
    source: str
    path: str
    line: int
    place: str = ""  # the page, chapter or heading, where the document has any


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """Bytes start to end of the answer, standing at `place` in the training text."""

    start: int
    end: int
    place: int


@dataclass(frozen=True, kw_only=True)
class TrainingText:
    """Everything that was trained on, searchable. A few times the text's size in memory."""

    documents: tuple[Document, ...]
    starts: tuple[int, ...]
    data: bytes = field(repr=False)
    blocks: np.ndarray = field(repr=False)  # the distinct positions' values, ascending
    order: np.ndarray = field(repr=False)  # where each stands, in blocks

    @classmethod
    def open(cls, corpus: Path, conversations: Path | None = None) -> "TrainingText":
        documents = list(read_documents(corpus, split="train"))
        if conversations is not None:
            documents += _conversation_documents(conversations)
        return cls.of(documents)

    @classmethod
    def of(cls, documents: list[Document]) -> "TrainingText":
        starts, pieces, at = [], [], 0
        for document in documents:
            piece = document.text.encode() + b"\0"  # cleaned text holds no NUL, so no match spans two documents
            starts.append(at)
            pieces.append(piece)
            at += len(piece)
        data = b"".join(pieces)
        data += b"\0" * (-len(data) % _BLOCK)
        values = np.frombuffer(data, dtype="<u8")
        order = np.argsort(values, kind="stable").astype(np.uint32)
        return cls(documents=tuple(documents), starts=tuple(starts), data=data, blocks=values[order], order=order)

    def longest_matches(self, answer: str, *, minimum_chars: int = 16, most: int = 3) -> list[Match]:
        """At most `most` stretches that do not overlap, longest first; none shorter than `minimum_chars`."""
        assert minimum_chars >= _SHORTEST, f"stretches under {_SHORTEST} characters cannot all be found"
        wanted = answer.encode(errors="replace")
        candidates = self._stretches(wanted)
        matches: list[Match] = []
        while candidates and len(matches) < most:
            candidates.sort(key=lambda stretch: (stretch.start - stretch.end, stretch.start))
            best, *rest = candidates
            trimmed, text = _trimmed(wanted, best)
            if len(text) >= minimum_chars:
                if text not in [match.text for match in matches]:
                    matches.append(self._match(trimmed, text))
                rest = [left for stretch in rest if (left := _without(stretch, best)) is not None]
            candidates = rest
        return matches

    def _stretches(self, wanted: bytes) -> list[_Stretch]:
        """For every window of eight bytes that stands somewhere, the longest stretch around it."""
        text = np.frombuffer(self.data, dtype=np.uint8)
        query = np.frombuffer(wanted, dtype=np.uint8)
        found: dict[tuple[int, int], _Stretch] = {}
        for at in range(len(wanted) - _BLOCK + 1):
            value = np.frombuffer(wanted[at : at + _BLOCK], dtype="<u8")[0]
            low = int(np.searchsorted(self.blocks, value, side="left"))
            high = int(np.searchsorted(self.blocks, value, side="right"))
            if low == high:
                continue
            places = self.order[low : min(high, low + _MOST_PLACES)].astype(np.int64) * _BLOCK
            stretch = _longest_around(text, query, at, places)
            if stretch.end - stretch.start >= _SHORTEST:
                known = found.setdefault((stretch.start, stretch.end), stretch)
                if stretch.place < known.place:
                    found[stretch.start, stretch.end] = stretch
        return list(found.values())

    def _match(self, stretch: _Stretch, text: str) -> Match:
        number = bisect_right(self.starts, stretch.place) - 1
        document = self.documents[number]
        offset = len(self.data[self.starts[number] : stretch.place].decode())
        line, place = document.line_at(offset), document.place_at(offset)
        return Match(text=text, source=document.source, path=document.path, line=line, place=place)


def _longest_around(text: np.ndarray, query: np.ndarray, at: int, places: np.ndarray) -> _Stretch:
    """The longest common stretch that contains query[at:at+8] where it stands at one of `places`."""
    # Seven bytes to the left are enough: a longer stretch holds an earlier block, met at its own window.
    left = _run_lengths(text, query, at - 1, places - 1, step=-1, most=_BLOCK - 1)
    right = _run_lengths(text, query, at + _BLOCK, places + _BLOCK, step=1, most=len(query))
    best = int(np.argmax(left + right))
    before = int(left[best])
    return _Stretch(start=at - before, end=at + _BLOCK + int(right[best]), place=int(places[best]) - before)


def _run_lengths(
    text: np.ndarray, query: np.ndarray, at: int, places: np.ndarray, *, step: int, most: int
) -> np.ndarray:
    """How many bytes agree from query[at] and text[place] on, for each place."""
    lengths = np.zeros(len(places), dtype=np.int64)
    alive = np.arange(len(places))
    for count in range(most):
        here = at + step * count
        if not 0 <= here < len(query):
            break
        there = places[alive] + step * count
        inside = (there >= 0) & (there < len(text))
        alive, there = alive[inside], there[inside]
        alive = alive[text[there] == query[here]]
        if not len(alive):
            break
        lengths[alive] += 1
    return lengths


def _trimmed(wanted: bytes, stretch: _Stretch) -> tuple[_Stretch, str]:
    """Without white space and without halves of characters at the ends."""
    start, end = stretch.start, stretch.end
    while start < end and wanted[start] & 0xC0 == 0x80:
        start += 1
    text = wanted[start:end].decode(errors="ignore")
    start += len(text.encode()) - len(text.lstrip().encode())
    text = text.strip()
    return _Stretch(start=start, end=start + len(text.encode()), place=stretch.place + start - stretch.start), text


def _without(stretch: _Stretch, taken: _Stretch) -> _Stretch | None:
    """The longer part of `stretch` that lies outside of `taken`."""
    before = min(stretch.end, taken.start) - stretch.start
    after = stretch.end - max(stretch.start, taken.end)
    if max(before, after) < _SHORTEST:
        return None
    if before >= after:
        return _Stretch(start=stretch.start, end=stretch.start + before, place=stretch.place)
    start = stretch.end - after
    return _Stretch(start=start, end=stretch.end, place=stretch.place + start - stretch.start)


def _conversation_documents(folder: Path) -> list[Document]:
    """What users and assistants say in the conversations that were trained on, and the documents among them."""
    read_card(folder, kind="conversations")
    documents = []
    with (folder / "train.jsonl").open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            entry = json.loads(line)
            turns = [turn for turn in entry.get("messages", ()) if turn.get("role") in ("user", "assistant")]
            documents += [
                Document(
                    text=text.replace("\0", ""),
                    source="conversations",
                    path="train.jsonl",
                    kind="conversation",
                    lines=((0, number),),
                )
                for text in (entry.get("text"), *(turn.get("content") for turn in turns))
                if isinstance(text, str)
            ]
    return documents
