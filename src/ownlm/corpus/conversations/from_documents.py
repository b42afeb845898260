"""Questions and answers from a person's own documents, by plain rules: for tuning a model that speaks already.

In:  documents. Out: lines for training and held-out ones.

    {"text": ...}        each document as it is: its words and its manner
    {"messages": ...}    What is TERM? and the sentence that says it; what the documents say about TERM; a heading and
                         what stands below it; how a sentence goes on

Every answer stands word for word in a document, so nothing is made up. The rules know English sentences; of other
languages they ask how a sentence goes on. Held out are the questions of documents that are held out, and, of those
that are read, one sentence in ten, which is then asked for in no training line.
"""

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ownlm.corpus.document import Document
from ownlm.corpus.split import fraction

HELD_OUT_SHARE = 0.1
# Of a document at most so many questions: a long one would leave the others no room.
MOST_QUESTIONS = 200

_SENTENCE = re.compile(r"[^\s.!?][^.!?]{15,300}(?:[.!?](?=\w)[^.!?]{0,300})*[.!?](?=\s|$)")
_WORD = r"[A-Za-z0-9][\w'’-]*"
_TERM = rf"(?:(?:The|A|An|This) )?(?P<term>{_WORD}(?: (?:(?:of|the|and|in|for|on|to) )*{_WORD}){{0,5}}?)"
_SAYS = r"(?P<verb>is|are|was|were|means|refers to|consists of|describes)"
_DOES = (
    r"(?P<verb>has|have|had|must|may|can|shall|should|will|does|do|provides?|contains?|includes?|requires?|allows?|"
    r"causes?|applies|apply|begins?|ends?|lasts?|costs?|pays?|uses?|makes?|shows?|gives?|takes?)"
)
_DEFINITION = re.compile(rf"{_TERM} {_SAYS} (?:an?|the|one|any|used|called|not|made|also|often) \S")
_STATEMENT = re.compile(rf"{_TERM} {_DOES} \S")
_HEADING = re.compile(r"(?:#+ *)?(?P<heading>[A-Z][^.!?:;,]{3,60})")
# What refers to something that stands elsewhere is no term to ask for.
_POINTING_WORDS = """
it this that these those there he she they we you i who which what its his her their our your my here such each every
some many most all both other others one another anyone someone if when while because although
"""
_POINTING = frozenset(_POINTING_WORDS.split())

GO_ON = ("Continue: {term}",)
WHAT_IS = ("What {verb} {term}?", "What {verb} {term}, according to the documents?", "Explain what {term} {verb}.")
ABOUT = ("What does “{document}” say about {term}?", "What do you know about {term}?", "Tell me about {term}.")
BELOW = ("What does “{document}” say under “{term}”?", "What stands below the heading “{term}”?")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """`forms`: ways to ask that take `term`, `verb` and `document`; the answer is `sentences`."""

    forms: tuple[str, ...]
    term: str
    verb: str
    sentences: tuple[str, ...]

    @property
    def answer(self) -> str:
        return " ".join(self.sentences)

    def line(self, rng: random.Random, document: str) -> dict[str, Any]:
        question = rng.choice(self.forms).format(term=self.term, verb=self.verb, document=document)
        return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": self.answer}]}


def lines_of_documents(
    documents: Iterable[Document], *, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(training, held out): the text of each document that is read, and questions."""
    rng = random.Random(seed)
    training: list[dict[str, Any]] = []
    held_out: list[dict[str, Any]] = []
    found: list[tuple[bool, Asked, str]] = []
    for document in documents:
        unread = document.split != "train"
        if not unread:
            training.append({"text": document.text})
        for asked in list(questions(document.text))[:MOST_QUESTIONS]:
            apart = unread or any(fraction(seed, "question", one) < HELD_OUT_SHARE for one in asked.sentences)
            found.append((apart, asked, _title(document)))
    # A sentence may stand in several documents, and in the answers to several questions.
    apart_sentences = {sentence for apart, asked, _ in found if apart for sentence in asked.sentences}
    for apart, asked, title in found:
        if apart:
            held_out.append(asked.line(rng, title))
        elif apart_sentences.isdisjoint(asked.sentences):
            training.append(asked.line(rng, title))
    rng.shuffle(training)
    rng.shuffle(held_out)
    return training, held_out


def _title(document: Document) -> str:
    """What a person would call it: the file's name without its ending."""
    return re.sub(r"[_-]+", " ", PurePosixPath(document.path).name.split(".")[0]).strip() or "the document"


def questions(text: str) -> Iterator[Asked]:
    """What the rules find to ask in a text, each sentence once, in its order."""
    said: set[str] = set()
    for heading, paragraph in _paragraphs(text):
        sentences = [" ".join(found[0].split()) for found in _SENTENCE.finditer(paragraph)]
        if heading and sentences:
            yield Asked(forms=BELOW, term=heading, verb="", sentences=tuple(sentences[:2]))
        for sentence, following in zip(sentences[::4], sentences[1::4], strict=False):
            yield Asked(forms=GO_ON, term=sentence, verb="", sentences=(following,))
        for sentence in sentences:
            if sentence in said:
                continue
            for rule, forms in ((_DEFINITION, WHAT_IS), (_STATEMENT, ABOUT)):
                match = rule.match(sentence)
                if match and _is_term(match["term"]):
                    said.add(sentence)
                    yield Asked(forms=forms, term=_as_asked(match), verb=_verb(match["verb"]), sentences=(sentence,))
                    break


def _paragraphs(text: str) -> Iterator[tuple[str, str]]:
    """(heading, or nothing, and paragraph): blank lines part them, and a heading is a short line with no full stop."""
    heading = ""
    for paragraph in re.split(r"\n\s*\n", text):
        first, _, rest = paragraph.strip().partition("\n")
        found = _HEADING.fullmatch(first.strip())
        if found is not None:
            heading, paragraph = found["heading"].strip(), rest
        if paragraph.strip():
            yield heading, paragraph
            heading = ""


def _is_term(term: str) -> bool:
    words = term.lower().split()
    if words[0] in _POINTING or words[-1] in _POINTING or words[-1].endswith("ly"):
        return False
    return any(len(word) > 3 for word in words)


def _as_asked(match: re.Match[str]) -> str:
    """The term as it stands within a sentence: an article that begins one loses its large letter."""
    whole = match.string[: match.end("term")]
    article, _, rest = whole.partition(" ")
    return f"{article.lower()} {rest}" if article in ("The", "A", "An", "This") else whole


def _verb(verb: str) -> str:
    return verb if verb in ("is", "are", "was", "were") else "is"
