"""What is asked of the engine, and what comes back."""

from dataclasses import dataclass, field

from ownlm.engine.sampling import Sampling


@dataclass(frozen=True, kw_only=True)
class Request:
    """Prompt ids and how to continue them."""

    prompt: list[int]
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One token's worth of an answer. `text` may be empty: half a character waits for its other half.

    `probability` is that of the token before temperature and cuts.
    """

    token_id: int
    text: str
    probability: float
    finish_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A whole answer. finish_reason: "stop" (an end token or stop string) or "length"."""

    text: str
    token_ids: list[int]
    log_probabilities: list[float]
    finish_reason: str
