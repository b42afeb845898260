"""What a task is: items, what is asked of a model about them, and the metrics.

In:  items from a file, a Subject (a model, or what stands for one in tests).
Out: for each item a Outcome: a row for every metric, and what is written of it to items.jsonl.

A new kind of task is a class with `kind`, `metrics` and `mark`; tests/unit/test_evaluation_tasks.py adds one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from ownlm.errors import OwnlmError
from ownlm.evaluation.metric import Metric, Row
from ownlm.evaluation.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A question in both forms: `text` to be continued, and `messages` for a chat template.

    `text` is None where there are messages alone, which only a template can write.
    """

    text: str | None
    messages: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, text: str, asked: str | None = None) -> "Prompt":
        """`asked`: what the user's turn says where that is not the text."""
        return cls(text=text, messages=({"role": "user", "content": text if asked is None else asked},))

    def for_(self, subject: Subject) -> "str | Sequence[Mapping[str, Any]]":
        """The form that the subject is asked in."""
        if subject.chat:
            return self.messages
        if self.text is None:
            raise OwnlmError("the items hold messages, which a chat template writes; add --chat")
        return self.text


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`rows`: by metric, None where it is missing. `flags`: what is counted of such items ("truncated", "tie" ...)."""

    rows: Mapping[str, Row | None]
    record: dict[str, Any]
    flags: frozenset[str] = frozenset()
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """`data`: file name -> sha256. What else decides the figures is a field of the kind's own."""

    kind: ClassVar[str]

    name: str
    items: Sequence[Any]
    data: Mapping[str, str] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The first is the one to look at."""
        raise NotImplementedError

    def mark(self, subject: Subject) -> list[Outcome]:
        """In the order of the items."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """A hash of the items and of what is done with them: figures with the same one can be compared."""
        settings = {one.name: repr(getattr(self, one.name)) for one in fields(self) if one.name not in ("name", "data")}
        return hashlib.sha256(json.dumps({"kind": self.kind, **settings}).encode()).hexdigest()
