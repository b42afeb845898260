"""Which sentences of the passages found may answer the question: those that share its rare words, then those that the
model finds to make the question likely.

    passages  ──▶  sentences  ──▶  a few by words  ──▶  each with its gain by the model

The gain is how much likelier the model finds the question after the sentence than after its document's title alone, in
nats a token. A small model asked for an answer makes one up; asked how well a question fits a text it is of use.
Source: the query likelihood of "Improving Passage Retrieval with Zero-Shot Question Generation" (arXiv:2204.07496),
less what the title alone gives.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ownlm.apps.passages import Passage, sentences
from ownlm.apps.question_words import TOKENIZER, match_any

if TYPE_CHECKING:
    # A search needs no torch.
    from ownlm.opened import Model

# Below this share of the question's words in the best passage no model is asked.
LEAST_COVERAGE = 0.5
# A sentence answers from this evidence on, and what the gain counts in it. Both were chosen on one set of questions and
# are reported on another (benchmarks/ask_quality.py).
LEAST_EVIDENCE = 0.97
GAIN_WEIGHT = 0.2
# Sentences that the model looks at, and how much of each.
_MOST = 3
_MOST_CHARACTERS = 240
_ASK = "Write one question that this text answers."


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """One of a passage, from `start` to `end`; `coverage`: the share of the question's words that it has, by weight."""

    passage: Passage
    start: int
    end: int
    coverage: float

    @property
    def text(self) -> str:
        return " ".join(self.passage.text[self.start : self.end].split())


def coverages(texts: Sequence[str], weights: Mapping[str, float]) -> list[float]:
    """For each text the share of the words, by weight, that stand in it, in any form (Porter's stems)."""
    total = sum(weights.values()) or 1.0
    found = [0.0] * len(texts)
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(f"CREATE VIRTUAL TABLE texts USING fts5(text, tokenize = '{TOKENIZER}')")
        database.executemany("INSERT INTO texts VALUES (?)", ((text,) for text in texts))
        for word, weight in weights.items():
            for (row,) in database.execute("SELECT rowid FROM texts WHERE texts MATCH ?", (match_any([word]),)):
                found[row - 1] += weight / total
    return found


def likely_sentences(passages: Sequence[Passage], weights: Mapping[str, float]) -> list[Sentence]:
    """The few with the most of the question's words, which the passage's title may have too."""
    spans = [(passage, start, end) for passage in passages for start, end in sentences(passage.text)]
    texts = [passage.text[start:end] for passage, start, end in spans]
    within = coverages(texts, weights)
    titled = coverages([f"{span[0].title} {text}" for span, text in zip(spans, texts, strict=True)], weights)
    order = sorted(range(len(spans)), key=lambda which: (-(within[which] + titled[which] / 2), which))
    chosen: dict[str, Sentence] = {}
    for which in order:
        passage, start, end = spans[which]
        # Passages overlap: a sentence may be in two.
        chosen.setdefault(texts[which], Sentence(passage=passage, start=start, end=end, coverage=titled[which]))
        if len(chosen) == _MOST:
            break
    return list(chosen.values())


def judged(
    model: "Model", question: str, passages: Sequence[Passage], weights: Mapping[str, float]
) -> list[tuple[Sentence, float]]:
    """Sentences with their evidence, the best first; none where no passage is about the question.

    The evidence is the share of the question's words in the best passage, and the model's gain by the sentence.
    """
    about = max(coverages([f"{passage.title} {passage.text}" for passage in passages], weights), default=0.0)
    if about < LEAST_COVERAGE:
        return []
    candidates = likely_sentences(passages, weights)
    by_model = [GAIN_WEIGHT * gain for gain in gains(model, question, candidates)]
    order = sorted(range(len(candidates)), key=lambda which: -(candidates[which].coverage + by_model[which]))
    return [(candidates[which], about + by_model[which]) for which in order]


def gains(model: "Model", question: str, candidates: Sequence[Sentence]) -> list[float]:
    """For each sentence, in nats a token of the question."""
    titles = list(dict.fromkeys(candidate.passage.title for candidate in candidates))
    texts = [f"{candidate.passage.title}\n{candidate.text[:_MOST_CHARACTERS]}" for candidate in candidates]
    if model.template is None:
        found = model.log_likelihoods([(f"{text}\n\nQuestion:", f" {question}") for text in (*texts, *titles)])
    else:
        found = model.answer_log_likelihoods([(f"{text}\n\n{_ASK}", question) for text in (*texts, *titles)])
    tokens = max(len(model.tokenizer.continue_ids(question)), 1)
    before = dict(zip(titles, found[len(texts) :], strict=True))
    return [
        (likelihood - before[candidate.passage.title]) / tokens
        for candidate, likelihood in zip(candidates, found, strict=False)
    ]
