"""Held-out text: how many bits a model needs for a byte of it, and its perplexity a token.

Bits per byte compare across tokenizers, perplexity a token does not. An item is a document; what is resampled for the
interval, and compared between two models, are pieces of about a thousand bytes, whole lines.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ownlm.evaluation.metric import Metric
from ownlm.evaluation.subject import Subject
from ownlm.evaluation.tasks.answers import perplexity
from ownlm.evaluation.tasks.task import Outcome, Task


@dataclass(frozen=True, kw_only=True)
class Text:
    place: str
    text: str


@dataclass(frozen=True, kw_only=True)
class HeldOutText(Task):
    kind: ClassVar[str] = "text"
    items: Sequence[Text]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (
            Metric(name="bits_per_byte", better="lower"),
            Metric(name="perplexity", figure=perplexity, better="lower"),
        )

    def mark(self, subject: Subject) -> list[Outcome]:
        marked = []
        for item, pieces in zip(self.items, subject.pieces([item.text for item in self.items]), strict=True):
            for number, piece in enumerate(pieces, start=1):
                record = {"place": item.place, "piece": number, "nats": piece.nats, "tokens": piece.tokens}
                bits = (piece.nats / math.log(2), float(piece.bytes))
                # Both sums are whole for all pieces together: a piece in which no token begins is none the less one.
                rows = {"bits_per_byte": bits, "perplexity": (piece.nats, float(piece.tokens))}
                marked.append(Outcome(rows=rows, record=record | {"bytes": piece.bytes}))
        return marked
