"""Generated answers against the expected ones, and how likely the model finds those.

    exact_match        equal after SQuAD's normalisation
    f1                 words in common: harmonic mean of precision and recall
    answer_perplexity  of a token of the first expected answer, after the prompt; compares models of one tokenizer alone
    answer_bits_per_byte

Of several expected answers the nearest counts. Answers are greedy. Outside a chat an answer ends at a line break,
unless an expected one of the set has such a break.

Source of normalisation and F1: SQuAD's evaluation script, v1.1 (Rajpurkar et al., arXiv:1606.05250): lower case, no
punctuation, no "a", "an", "the", single spaces.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ownlm.evaluation.metric import Floats, Metric, Row, ratio
from ownlm.evaluation.subject import Likelihood, Said, Subject
from ownlm.evaluation.tasks.task import Outcome, Prompt, Task

MOST_TOKENS = 128

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, kw_only=True)
class Question:
    prompt: Prompt
    answers: tuple[str, ...]


def perplexity(sums: Floats) -> Floats:
    """Rows are (nats, tokens)."""
    return np.exp(ratio(sums))


LIKELIHOOD = (
    Metric(name="answer_perplexity", figure=perplexity, better="lower"),
    Metric(name="answer_bits_per_byte", better="lower"),
)


@dataclass(frozen=True, kw_only=True)
class Answers(Task):
    kind: ClassVar[str] = "answers"
    items: Sequence[Question]
    max_tokens: int = MOST_TOKENS

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (Metric(name="f1"), Metric(name="exact_match", share=True), *LIKELIHOOD)

    def rows(self, said: Sequence[Said]) -> list[dict[str, Row | None]]:
        """Of each answer what is counted of its words; a kind of its own may count otherwise."""
        return [
            {name: (_best(score, one.text, item.answers), 1.0) for name, score in _SCORES.items()}
            for item, one in zip(self.items, said, strict=True)
        ]

    def mark(self, subject: Subject) -> list[Outcome]:
        lines = any("\n" in answer.strip() for item in self.items for answer in item.answers)
        stop = () if subject.chat or lines else ("\n",)
        prompts = [item.prompt.for_(subject) for item in self.items]
        said = subject.answers(prompts, max_tokens=self.max_tokens, stop=stop)
        space = "" if subject.chat else " "
        likely = subject.likelihoods(
            [(prompt, space + item.answers[0].strip()) for prompt, item in zip(prompts, self.items, strict=True)]
        )
        names = [metric.name for metric in self.metrics if metric not in LIKELIHOOD]
        marked = []
        for item, one, expected, rows in zip(self.items, said, likely, self.rows(said), strict=True):
            if one.error is not None:
                # What was not answered is not known, and so counts for nothing, the expected answer's likelihood too.
                marked.append(Outcome(rows={}, record=_record(item, one), error=one.error))
                continue
            flags = expected.flags | ({"cut"} if one.finish_reason == "length" else set())
            counted = {name: rows[name] for name in names} | _likelihood_rows(item, expected)
            marked.append(Outcome(rows=counted, record=_record(item, one), flags=frozenset(flags)))
        return marked


def _record(item: Question, said: Said) -> dict[str, object]:
    return {"prompt": item.prompt.text, "expected": list(item.answers), "answer": said.text}


def _likelihood_rows(item: Question, expected: Likelihood) -> dict[str, Row | None]:
    size = len(item.answers[0].strip().encode(errors="surrogatepass"))
    return {
        "answer_perplexity": (-expected.nats, float(expected.tokens)) if expected.tokens else None,
        "answer_bits_per_byte": (-expected.nats / math.log(2), float(size)) if size else None,
    }


def normalised(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(answer: str, expected: str) -> float:
    return float(normalised(answer) == normalised(expected))


def token_f1(answer: str, expected: str) -> float:
    ours, theirs = normalised(answer).split(), normalised(expected).split()
    common = sum((Counter(ours) & Counter(theirs)).values())
    if not common:
        return float(ours == theirs)
    precision, recall = common / len(ours), common / len(theirs)
    return 2 * precision * recall / (precision + recall)


def _best(score: Callable[[str, str], float], answer: str, expected: Sequence[str]) -> float:
    return max(score(answer, one) for one in expected)


_SCORES = {"f1": token_f1, "exact_match": exact}
