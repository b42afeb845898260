"""From scores to the next token.

Order, as in the docs: repetition penalty, temperature, top-k, top-p, min-p, draw. Temperature 0 is greedy.
Each request draws from its own generator, so its result does not depend on who shares the batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ownlm.errors import OwnlmError

# Below this float32 would divide by 0.
_SMALLEST_TEMPERATURE = 1e-30


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How one answer is drawn and when it ends.

    top_k 0 and top_p 1 leave all tokens in; min_p drops what is less likely than min_p times the best;
    repetition_penalty above 1 makes tokens of prompt and answer less likely (arXiv:1909.05858).
    """

    max_tokens: int = 256
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False

    def __post_init__(self) -> None:
        checks = {
            "max_tokens": (self.max_tokens >= 1, "at least 1"),
            "temperature": (0 <= self.temperature < float("inf"), "0 (greedy) or more"),
            "top_k": (self.top_k >= 0, "0 (off) or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "min_p": (0 <= self.min_p < 1, "at least 0 and below 1"),
            "repetition_penalty": (0 < self.repetition_penalty < float("inf"), "above 0"),
            "seed": (self.seed is None or abs(self.seed) < 2**63, "between -2**63 and 2**63"),
            "stop": (all(self.stop), "made of texts that are not empty"),
        }
        for name, (right, wanted) in checks.items():
            if not right:
                raise OwnlmError(f"{name} must be {wanted}, got {getattr(self, name)!r}")


def penalise_repetition(logits_V: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Lower the logits of ids in `seen`: divide what is positive, multiply what is negative."""
    logits_V = logits_V.clone()
    values = logits_V[seen]
    logits_V[seen] = torch.where(values > 0, values / penalty, values * penalty)
    return logits_V


def probabilities(logits_V: Tensor, sampling: Sampling) -> Tensor:
    """The distribution that is drawn from, float32 [V], after temperature and the three cuts."""
    # Less the largest first: a temperature near 0 then divides to -inf at worst, never to infinity.
    logits_V = (logits_V.float() - logits_V.max()) / max(sampling.temperature, _SMALLEST_TEMPERATURE)
    if 0 < sampling.top_k < len(logits_V):
        smallest_kept = logits_V.topk(sampling.top_k).values[-1]
        logits_V = logits_V.masked_fill(logits_V < smallest_kept, -torch.inf)
    chance_V = logits_V.softmax(-1)
    if sampling.top_p < 1:
        ordered, order = chance_V.sort(descending=True)
        # A token stays when those before it have not reached top_p: the first always stays.
        surplus = ordered.cumsum(-1) - ordered >= sampling.top_p
        chance_V = chance_V.index_fill(0, order[surplus], 0.0)
    if sampling.min_p > 0:
        chance_V = chance_V.masked_fill(chance_V < sampling.min_p * chance_V.max(), 0.0)
    return chance_V / chance_V.sum()


def choose(logits_V: Tensor, sampling: Sampling, seen: Tensor, generator: torch.Generator) -> int:
    """The next token's id. Ids that no text has (padding of the vocabulary) must be cut off before."""
    if sampling.repetition_penalty != 1 and len(seen):
        logits_V = penalise_repetition(logits_V, seen, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    return int(torch.multinomial(probabilities(logits_V, sampling), 1, generator=generator))
