"""What is asked of the engine, and what comes back."""

from collections import deque
from dataclasses import dataclass, field
from math import exp
from typing import TYPE_CHECKING

from torch import Tensor

from ownlm.engine.sampling import Sampling

if TYPE_CHECKING:
    from ownlm.engine.grammar import Grammar
    from ownlm.model.lora import LoraAdapter

# The likeliest tokens at a place, as (id, natural logarithm of the probability), the likeliest first.
Top = tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True)
class Request:
    """Prompt ids and how to continue them.

    `priority`: lower goes first; each level is worth PATIENCE later requests (scheduler.py). Only requests with the
    same `cache_salt` share what is computed for a common beginning: give each user one where that must stay private.
    `embed`: nothing is drawn; the request ends when its prompt is read, and its ticket then has the embedding.
    """

    prompt: list[int]
    sampling: Sampling = field(default_factory=Sampling)
    grammar: "Grammar | None" = None
    adapter: "LoraAdapter | None" = None
    priority: int = 0
    cache_salt: str = ""
    embed: bool = False


@dataclass(frozen=True, kw_only=True)
class PromptToken:
    """How likely the model found a token of the prompt after those before it."""

    token_id: int
    logprob: float
    top: Top


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One token's worth of an answer. `text` may be empty: half a character waits for its other half.

    `logprob` is the natural logarithm of the token's probability before temperature and cuts. `offset` is the place
    in the answer's text at which the token's own begins, before a stop string cut it. `choice` counts the answers to
    one request. finish_reason: None, or as Completion's. stop: the stop string that ended it, where one did.

    `complete`: False on the last piece of an answer that was cut before it was all that its grammar asks for.
    """

    token_id: int
    text: str
    logprob: float
    top: Top = ()
    offset: int = 0
    choice: int = 0
    finish_reason: str | None = None
    stop: str | None = None
    complete: bool = True

    @property
    def probability(self) -> float:
        return exp(self.logprob)


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A whole answer. finish_reason: "stop" (an end token, a stop string, a finished grammar) or "length".

    `offsets` are the places in `text` at which the tokens begin; a character's tokens share its place.
    """

    text: str
    token_ids: list[int]
    log_probabilities: list[float]
    top: list[Top]
    finish_reason: str
    complete: bool = True  # False where it was cut before it was all that its grammar asks for
    offsets: list[int]


class Ticket:
    """A request that the engine has taken: what comes back gathers in `pieces`, in the order it was drawn."""

    def __init__(self, id: int, request: Request) -> None:
        self.id, self.request = id, request
        self.pieces: deque[Piece] = deque()
        self.going = request.sampling.n
        # All but the first token of the prompt, once it is read; None unless sampling.prompt_logprobs asks.
        self.prompt_tokens: list[PromptToken] | None = [] if request.sampling.prompt_logprobs else None
        self.cached_tokens = 0  # of the prompt, found computed
        self.drafted = self.accepted = 0  # tokens that speculation proposed, and how many were right
        # The mean of the prompt's last hidden states, of unit length; None until it is read, and unless `embed` asks.
        self.embedding_E: Tensor | None = None
        self.error: str | None = None

    @property
    def finished(self) -> bool:
        return self.going == 0
