"""An answer from one's own documents, made of their own sentences, each with its file and page.

    folder, question  ──▶  the five nearest passages  ──▶  sentences that answer, by the model  ──▶  quoted, or declined
                           (passage_index)                 (evidence)                                (quotations)

The model writes nothing: it judges which sentences the question fits, and what is shown is found in the documents word
for word. Without a model it is a search. Where nothing answers it says so, and shows the nearest passages.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ownlm.apps.evidence import LEAST_EVIDENCE, judged
from ownlm.apps.passage_index import PassageIndex
from ownlm.apps.passages import Passage
from ownlm.apps.question_words import question_words
from ownlm.apps.quotations import find_quotation
from ownlm.corpus.readers.folder import READABLE
from ownlm.errors import OwnlmError

if TYPE_CHECKING:
    # A search needs no torch.
    from ownlm.opened import Model

DECLINED = "Your documents do not say."
_PASSAGES = 5
_NEAREST = 3


@dataclass(frozen=True, kw_only=True)
class Source:
    """A stretch of a document, with its file in the folder and its page, chapter, heading or line."""

    text: str
    file: str
    place: str


@dataclass(frozen=True, kw_only=True)
class Reply:
    """`answer` is the quotations as one text, DECLINED, or empty where no model was asked.

    `nearest` are passages: the five looked at, or three where the answer is declined. `left_out` are the lines
    that say which files could not be read.
    """

    answer: str
    quotations: list[Source] = field(default_factory=list)
    nearest: list[Source] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def ask(
    folder: str | Path,
    question: str,
    model: "Model | None" = None,
    *,
    report: Callable[[str], None] = lambda line: None,
) -> Reply:
    """Quotations from the documents in `folder` that answer `question`; the passages alone without a `model`."""
    if not question_words(question):
        raise OwnlmError("the question holds no words; ask for what the documents may say")
    with PassageIndex.open(Path(folder), report) as index:
        if not index.files and not index.left_out.names:
            raise OwnlmError(f"{folder} holds no documents; put {READABLE} into it")
        passages = index.search(question, _PASSAGES)
        weights = index.weights(question)
        left_out = list(index.left_out.lines())
    nearest = [Source(text=passage.text, file=passage.file, place=passage.where()) for passage in passages]
    if passages and model is None:
        return Reply(answer="", nearest=nearest, left_out=left_out)
    quotations = _quotations(model, question, passages, weights) if model else []
    if not quotations:
        return Reply(answer=DECLINED, nearest=nearest[:_NEAREST], left_out=left_out)
    answer = " ".join(quotation.text for quotation in quotations)
    return Reply(answer=answer, quotations=quotations, nearest=nearest, left_out=left_out)


def _quotations(model: "Model", question: str, passages: list[Passage], weights: dict[str, float]) -> list[Source]:
    """The best first; none where nothing answers."""
    best = judged(model, question, passages, weights)
    found = [_quoted(sentence.text, sentence.passage) for sentence, evidence in best if evidence >= LEAST_EVIDENCE]
    return [source for source in found if source is not None]


def _quoted(quotation: str, passage: Passage) -> Source | None:
    """The passage's own words where it has them, and where they stand; None for what is not there word for word."""
    span = find_quotation(quotation, passage.text)
    if span is None:
        return None
    start, end = span
    return Source(text=" ".join(passage.text[start:end].split()), file=passage.file, place=passage.where(start))
