"""Chance from names: the same documents are sampled and held out every time, wherever the files lie.

In:  names of documents and a seed. Out: a number in [0, 1) for each, an order, a training and a validation side.
Whole documents are held out, never lines of one that is trained on: a model that has read the rest of a file
knows half of what it is asked.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ownlm.corpus.document import Document

# One document gives at most this share of a validation slice of the user's text, so that no single book is it.
_SHARE_OF_ONE = 0.25
_LEAST_OF_ONE = 10_000
# From here on another quarter would go over the size that is wanted.
_ENOUGH = 0.8


def fraction(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1), uniform over names; purposes are independent of each other."""
    digest = hashlib.sha256(f"{seed}\0{purpose}\0{name}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def sampling_key(seed: int, purpose: str, name: str, weight: float) -> float:
    """Taking names by ascending key samples them without replacement in proportion to their weights.

    The key is exponentially distributed with rate `weight` (Efraimidis and Spirakis, 2006). An infinite
    weight gives a negative key: before all others, in random order.
    """
    chance = fraction(seed, purpose, name)
    if math.isinf(weight):
        return chance - 1.0
    return -math.log1p(-chance) / weight


def shuffled(documents: Iterable[Document], seed: int) -> list[Document]:
    """In an order that only names and seed decide, so that any prefix is a fair sample."""
    return sorted(documents, key=lambda document: (fraction(seed, "order", document.name), document.name))


def hold_out(
    documents: Sequence[Document], *, share: float, most_bytes: int, seed: int
) -> tuple[list[Document], list[Document], int]:
    """(training, validation, characters left out): the first documents by chance are held out until it is enough.

    Of a document longer than a quarter of the slice only the beginning is used; its rest is left out of both.
    """
    ordered = sorted(documents, key=lambda document: fraction(seed, "split", document.name))
    total = sum(document.size for document in ordered)
    # Under 50 kB bits per byte are mostly chance, but a tenth of a small text is all that it can spare.
    wanted = min(max(int(share * total), min(50_000, total // 10)), most_bytes)
    held: list[Document] = []
    left_out = taken = 0
    most_of_one = max(int(wanted * _SHARE_OF_ONE), _LEAST_OF_ONE)
    while len(ordered) > 1 and taken < _ENOUGH * wanted:
        document = ordered.pop(0)
        text = _beginning(document.text, most_of_one)
        left_out += len(document.text) - len(text)
        kept = tuple(entry for entry in document.lines if entry[0] < len(text))
        places = document.places_between(0, len(text))
        held.append(replace(document, text=text, split="validation", slice="text", lines=kept, places=places))
        taken += held[-1].size
    return ordered, held, left_out


def _beginning(text: str, most_bytes: int) -> str:
    """At most about `most_bytes` of text, ended after a line where there is one."""
    data = text.encode()
    if len(data) <= most_bytes:
        return text
    cut = data[:most_bytes].decode(errors="ignore")
    line_end = cut.rfind("\n")
    return cut[: line_end + 1] if line_end > len(cut) // 2 else cut


def split_into_parts(document: Document, part_characters: int) -> list[Document]:
    """The document cut at blank lines (else line ends, else anywhere) into parts of about that length."""
    text, parts, start = document.text, [], 0
    while start < len(text):
        end = _cut_after(text, start + part_characters, start + 4 * part_characters)
        piece = text[start:end]
        if piece.strip():
            places = document.places_between(start, end)
            parts.append(replace(document, text=piece, lines=((0, document.line_at(start)),), places=places))
        start = end
    return parts


def _cut_after(text: str, wanted: int, latest: int) -> int:
    if latest >= len(text) and len(text) - wanted < latest - wanted:
        blank = text.find("\n\n", wanted)
        return blank + 2 if blank >= 0 else len(text)
    for mark in ("\n\n", "\n", " "):
        found = text.find(mark, wanted, latest)
        if found >= 0:
            return found + len(mark)
    return wanted
