"""What steers the making of conversations: where they come from, how many, in what mixture."""

from dataclasses import dataclass, field, fields
from pathlib import Path

from ownlm.errors import OwnlmError


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Shares of the exchanges by kind; they need not add up to one."""

    fact: float = 0.26
    expression: float = 0.48
    small_talk: float = 0.05
    identity: float = 0.04
    declining: float = 0.10
    near_miss: float = 0.07

    def as_weights(self) -> dict[str, float]:
        return {entry.name: float(getattr(self, entry.name)) for entry in fields(self)}


@dataclass(frozen=True, kw_only=True)
class ExamSizes:
    """How many questions of each kind the exam asks."""

    fact: int = 200
    expression: int = 240
    refusal: int = 120
    in_scope: int = 120
    near_miss: int = 80
    choose: int = 300


@dataclass(frozen=True, kw_only=True)
class ConversationsConfig:
    """Where the conversations come from.

    corpus:        corpus folder; its held-out docstrings make choose.jsonl, its texts the `from_text` conversations
    chat:          the user's own conversations, a file or a folder: these alone are used, and there is no exam
    strict:        with chat: the first bad line is an error, instead of one in twenty
    group:         with chat: a field of its lines; those with the same value stay on one side of the split
    from_text:     make conversations from the user's own text instead of from Python's
    from_documents: the documents of the corpus as they are, and questions whose answers stand in them
    seed:          decides every draw
    conversations: how many to write for training; the trainer stops when its time is over, not at their end
    validation:    how many to hold out
    """

    corpus: Path | None = None
    chat: Path | None = None
    strict: bool = False
    group: str | None = None
    from_text: bool = False
    from_documents: bool = False
    seed: int = 0
    conversations: int = 32_000
    validation: int = 400
    mixture: Mixture = field(default_factory=Mixture)
    exam: ExamSizes = field(default_factory=ExamSizes)

    def __post_init__(self) -> None:
        for name in ("from_text", "from_documents"):
            if getattr(self, name) and self.corpus is None:
                raise OwnlmError(f"conversations from text need a corpus; name its folder, or leave {name} out")
        for name in ("strict", "group"):
            if getattr(self, name) and self.chat is None:
                raise OwnlmError(f"{name} is for your own conversations; give them as chat, or leave {name} out")
        if self.from_text and self.from_documents:
            raise OwnlmError("from_text is for a model that cannot talk yet, from_documents for one that can; give one")
        if self.conversations < 1 or self.validation < 0:
            raise OwnlmError("conversations must be 1 or more and validation 0 or more; change the recipe")
        weights = self.mixture.as_weights().values()
        if min(weights) < 0 or sum(weights) <= 0:
            raise OwnlmError("the shares of the mixture must be 0 or more, one above 0; change the recipe")
