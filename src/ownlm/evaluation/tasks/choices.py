"""Multiple choice by log-likelihood: the choice that the model finds likeliest after the prompt.

    acc        of the choices' log-likelihoods the largest is the right one's
    acc_norm   the same after dividing by the choice's length in characters, as lm-eval's acc_norm
    acc_bytes  the same by UTF-8 bytes, as its acc_bytes

A tie for the first place is never right: a model that finds all alike has no accuracy (lm-eval takes the first).
Items with neutral prompts are calibrated: a choice's score is less its mean after those, which say nothing of it, so
that a likely word is not preferred for itself (Zhao et al., "Calibrate before use", arXiv:2102.09690).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

from ownlm.evaluation.metric import Metric, Row
from ownlm.evaluation.statistics import sole_best
from ownlm.evaluation.subject import Asked, Likelihood, Subject
from ownlm.evaluation.tasks.task import Outcome, Prompt, Task

LENGTHS: dict[str, Callable[[str], int]] = {
    "acc": lambda choice: 1,
    "acc_norm": len,
    "acc_bytes": lambda choice: len(choice.encode(errors="surrogatepass")),
}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """`answer`: the right one's place among the choices."""

    prompt: Prompt
    choices: tuple[str, ...]
    answer: int
    neutral: tuple[Prompt, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Choices(Task):
    kind: ClassVar[str] = "choices"
    items: Sequence[Choice]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        chance = fmean(1 / len(item.choices) for item in self.items)
        return tuple(Metric(name=name, share=True, chance=chance) for name in self._lengths)

    @property
    def _lengths(self) -> dict[str, Callable[[str], int]]:
        # What is calibrated has no length left to take away.
        calibrated = any(item.neutral for item in self.items)
        return {"acc": LENGTHS["acc"]} if calibrated else LENGTHS

    def mark(self, subject: Subject) -> list[Outcome]:
        # After a text comes a space; an answer in a chat begins with its word.
        space = "" if subject.chat else " "
        pairs: list[tuple[Asked, str]] = [
            (prompt.for_(subject), space + choice)
            for item in self.items
            for prompt in (item.prompt, *item.neutral)
            for choice in item.choices
        ]
        found = iter(subject.likelihoods(pairs))

        def of(item: Choice) -> list[list[Likelihood]]:
            """A row for the prompt, and one for each neutral one."""
            return [[next(found) for _ in item.choices] for _ in (item.prompt, *item.neutral)]

        return [self._marked(item, of(item)) for item in self.items]

    def _marked(self, item: Choice, found: Sequence[Sequence[Likelihood]]) -> Outcome:
        scores = [
            choice.nats - (fmean(neutral[place].nats for neutral in found[1:]) if found[1:] else 0.0)
            for place, choice in enumerate(found[0])
        ]
        record: dict[str, Any] = {
            "prompt": item.prompt.text,
            "choices": list(item.choices),
            "answer": item.answer,
            "nats": [choice.nats for choice in found[0]],
            "chosen": sole_best(scores),
        }
        if item.neutral:
            record["calibrated"] = scores
        if not all(map(math.isfinite, scores)):
            return Outcome(rows={}, record=record, error="the model's scores are no finite numbers")
        flags = {flag for row in found for choice in row for flag in choice.flags}
        rows: dict[str, Row | None] = {}
        for name, length in self._lengths.items():
            shares = [score / length(choice) for score, choice in zip(scores, item.choices, strict=True)]
            best = sole_best(shares)
            rows[name] = (float(best == item.answer), 1.0)
            if best is None:
                flags.add("tie")
        return Outcome(rows=rows, record=record, flags=frozenset(flags))
