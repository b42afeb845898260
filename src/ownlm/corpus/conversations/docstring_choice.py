"""Choose the docstring: of four real first sentences, which one fits a function that was never trained on?

In:  the held-out prose of a corpus, where each docstring follows a heading such as "json.loads(s, cls):".
Out: items with a question about the name, the same about a name that says nothing, four options and the right one's
     place.

An option's score is its log-likelihood as the answer less that after the neutral question: what the name adds.
The other three come from other documents and other names. A sentence that also stands in training is left out.
"""

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ownlm.corpus.conversations.facts import first_sentence
from ownlm.corpus.document import read_documents

HEADING = re.compile(r"(?:\A|\n\n)([A-Za-z]\w*(?:\.[A-Za-z]\w*)+)(\([^\n]*\)):\n")
QUESTION = "What does {name} do?"
NEUTRAL_NAME = "module.name"
SLICES = ("prose", "package")
OPTIONS = 4


@dataclass(frozen=True, kw_only=True)
class Described:
    """A function and the first sentence that describes it."""

    name: str
    sentence: str
    document: str


def read_described(texts: Iterable[tuple[str, str]]) -> Iterator[Described]:
    """The described functions of (document name, prose text) pairs."""
    for document, text in texts:
        headings = list(HEADING.finditer(text))
        for place, heading in enumerate(headings):
            end = headings[place + 1].start() if place + 1 < len(headings) else len(text)
            sentence = first_sentence(text[heading.end() : end] or " ")
            if sentence is not None:
                yield Described(name=heading[1], sentence=sentence, document=document)


def make_choices(held_out: Iterable[Described], trained: set[str], count: int, seed: int) -> list[dict[str, Any]]:
    """Up to `count` items; none whose sentence is in `trained` or stands twice."""
    rng = random.Random(seed)
    by_sentence: dict[str, Described] = {}
    for described in held_out:
        if described.sentence not in trained:
            by_sentence.setdefault(described.sentence, described)
    pool = list(by_sentence.values())
    rng.shuffle(pool)
    items: list[dict[str, Any]] = []
    for right in pool[: 2 * count]:
        others = [
            other
            for other in pool
            if _module(other) != _module(right) and _word(other) != _word(right) and other.document != right.document
        ]
        if len(others) < OPTIONS - 1 or len(items) == count:
            continue
        options = [right, *rng.sample(others, OPTIONS - 1)]
        rng.shuffle(options)
        items.append(
            {
                "id": f"choose-{len(items):03d}",
                "question": QUESTION.format(name=right.name),
                "neutral_question": QUESTION.format(name=NEUTRAL_NAME),
                "options": [option.sentence for option in options],
                "right": options.index(right),
            }
        )
    return items


def choices_from_corpus(corpus: Path, count: int, seed: int) -> list[dict[str, Any]]:
    """The items of a corpus; none where it holds no described functions, as a user's own text."""
    held_out = [
        described for name in SLICES for described in read_described(_prose(corpus, split="validation", slice=name))
    ]
    if not held_out:
        return []
    trained = {described.sentence for described in read_described(_prose(corpus, split="train", slice=None))}
    return make_choices(held_out, trained, count, seed)


def _prose(corpus: Path, *, split: str, slice: str | None) -> Iterator[tuple[str, str]]:
    for document in read_documents(corpus, split=split, slice=slice):
        if document.kind == "prose":
            yield f"{document.source}/{document.path}", document.text


def _module(described: Described) -> str:
    return described.name.rpartition(".")[0]


def _word(described: Described) -> str:
    return described.name.rpartition(".")[2]
