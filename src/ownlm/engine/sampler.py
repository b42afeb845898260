"""From scores to the next token: the sampler of one request.

    logits_V ─▶ logit bias ─▶ repetition, frequency, presence ─▶ DRY ─▶ temperature ─▶
    top-k ─▶ typical ─▶ top-p ─▶ min-p ─▶ XTC ─▶ one draw

Temperature 0 takes the best of what the biases and penalties left, the lowest id of equals. Mirostat 2 stands in place
of the five cuts. Every cut sees the chances that the one before left, scaled to sum to 1. This is llama.cpp's order but
for the temperature, which comes last there.

A request draws from a generator of its own, one uniform number a token, by the inverse of the cumulative chances over
ascending ids: neither who shares the batch nor speculation changes what it says.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ownlm.engine.penalties import Penalties
from ownlm.engine.rare_samplers import Dry, Floats, Ids, Mirostat, split_uniform, typical, xtc
from ownlm.engine.sampling import BAN, Sampling
from ownlm.errors import OwnlmError

# Below this float32 would divide by 0.
_SMALLEST_TEMPERATURE = 1e-30


@dataclass(frozen=True, slots=True)
class Drawn:
    """A drawn token. Natural logarithms of chances as the model gave them, before every bias, penalty and cut.

    `top` are the likeliest (id, logarithm), best first, as many as Sampling.logprobs asks.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


class Candidates:
    """Tokens that may still be drawn: their ids, ascending (None: all), and float32 chances that sum to 1."""

    def __init__(self, logits_V: Tensor, temperature: float, top_k: int) -> None:
        # Less the largest first: a temperature near 0 then divides to -inf at worst, never to infinity.
        scaled_C = (logits_V - logits_V.max()) / max(temperature, _SMALLEST_TEMPERATURE)
        self.ids_C: Ids | None = None
        if 0 < top_k < len(scaled_C):
            # Equals of the last one stay too.
            self.ids_C = np.flatnonzero(scaled_C.numpy() >= largest(scaled_C.numpy(), top_k)[-1])
            scaled_C = scaled_C[self.ids_C]
        self.chance_C: Floats = scaled_C.softmax(0).numpy()

    def keep(self, places: Ids) -> None:
        self.ids_C = places if self.ids_C is None else self.ids_C[places]
        self.chance_C = self.chance_C[places]
        self.chance_C /= self.chance_C.sum()

    def draw(self, uniform: float) -> tuple[int, float]:
        """The id at which the cumulative chance passes `uniform`, in [0, 1), and its chance."""
        cumulative_C = torch.from_numpy(self.chance_C).cumsum(0, dtype=torch.float64).numpy()
        place = int(cumulative_C.searchsorted(uniform * cumulative_C[-1], side="right"))
        return place if self.ids_C is None else int(self.ids_C[place]), float(self.chance_C[place])


class Sampler:
    """The state of one answer: its random numbers, its counts, mirostat's mu.

    `choice` is the answer's place among the request's n; `end_ids` are those that would end it, kept away until
    min_tokens were drawn.
    """

    def __init__(
        self, sampling: Sampling, prompt: Sequence[int], *, choice: int = 0, end_ids: Sequence[int] = ()
    ) -> None:
        self.sampling = sampling
        self._count = 0
        # Random() takes the absolute value of its seed: the remainder keeps -1 and 1 apart.
        self._random = random.Random(None if sampling.seed is None else (sampling.seed + choice) % 2**64)
        bias = {id: -math.inf if value <= BAN else value for id, value in sampling.logit_bias.items()}
        self._bias_ids, self._bias = torch.tensor(list(bias), dtype=torch.long), torch.tensor(list(bias.values()))
        self._end_ids = torch.tensor(list(end_ids), dtype=torch.long)
        self._penalties = Penalties(sampling, prompt) if Penalties.wanted(sampling) else None
        self._dry = Dry(sampling, prompt) if sampling.dry_multiplier else None
        self._mirostat = Mirostat(sampling.mirostat_tau, sampling.mirostat_eta) if sampling.mirostat else None

    def draw(self, logits_V: Tensor, restrict: Callable[[Tensor], None] | None = None) -> Drawn:
        """The next token from float32 scores. `restrict` sets those that may not come, for a grammar, to -inf."""
        total = float(logits_V.logsumexp(0))
        assert total > -math.inf or math.isnan(total), "no token is allowed"
        if not math.isfinite(total):
            raise OwnlmError("the model's scores are no finite numbers; open it with dtype float32")
        allowed_V = logits_V
        if restrict is not None:
            allowed_V = logits_V.clone()
            restrict(allowed_V)
        changed_V = self._changed(allowed_V)
        token_id = int(changed_V.numpy().argmax()) if self.sampling.temperature == 0 else self._draw(changed_V)
        self._count += 1
        if self._penalties is not None:
            self._penalties.count(token_id)
        if self._dry is not None:
            self._dry.count(token_id)
        top = likeliest(logits_V, self.sampling.logprobs or 0)
        return Drawn(
            token_id=token_id,
            logprob=float(logits_V[token_id]) - total,
            top=tuple((id, logit - total) for id, logit in top),
        )

    def _changed(self, logits_V: Tensor) -> Tensor:
        """The scores after biases and penalties; the given ones stay as they are."""
        too_early = self._count < self.sampling.min_tokens and len(self._end_ids) > 0
        if not (len(self._bias) or self._penalties or self._dry or too_early):
            return logits_V
        changed_V = logits_V.clone()
        if len(self._bias):
            changed_V[self._bias_ids] += self._bias
        if self._penalties is not None:
            self._penalties.apply(changed_V)
        if self._dry is not None:
            self._dry.apply(changed_V)
        if too_early:
            changed_V[self._end_ids[self._end_ids < len(changed_V)]] = -torch.inf
        # A ban gives way where nothing else is left: a grammar may allow the end alone.
        return changed_V if changed_V.max() > -torch.inf else logits_V

    def _draw(self, logits_V: Tensor) -> int:
        sampling, uniform = self.sampling, self._random.random()
        if self._mirostat is not None:
            candidates = Candidates(logits_V, sampling.temperature, top_k=0)
            candidates.keep(self._mirostat.cut(candidates.chance_C))
            token_id, chance = candidates.draw(uniform)
            self._mirostat.observe(chance)
            return token_id
        candidates = Candidates(logits_V, sampling.temperature, sampling.top_k)
        if sampling.typical_p < 1:
            candidates.keep(typical(candidates.chance_C, sampling.typical_p))
        if sampling.top_p < 1:
            candidates.keep(nucleus(candidates.chance_C, sampling.top_p))
        if sampling.min_p > 0:
            candidates.keep(np.flatnonzero(candidates.chance_C >= sampling.min_p * candidates.chance_C.max()))
        if sampling.xtc_probability > 0:
            exclude, uniform = split_uniform(uniform, sampling.xtc_probability)
            if exclude:
                candidates.keep(xtc(candidates.chance_C, sampling.xtc_threshold))
        return candidates.draw(uniform)[0]


def nucleus(chance_C: Floats, top_p: float) -> Ids:
    """The likeliest until they hold top_p of the chance (arXiv:1904.09751); of equals the lowest ids."""
    count, best = 0, chance_C[:0]
    # A few hold the mass nearly always: sorting all of a large vocabulary would cost more than all the rest.
    for size in (256, 4096, len(chance_C)):
        best = largest(chance_C, min(size, len(chance_C)))
        # A token stays when those before it have not reached top_p: the first always stays.
        count = int(np.count_nonzero(best.cumsum(dtype=np.float64) - best < top_p))
        if count < len(best):
            break
    places = np.flatnonzero(chance_C >= best[count - 1])
    equals = np.flatnonzero(chance_C[places] == best[count - 1])
    surplus = len(places) - count
    return np.delete(places, equals[len(equals) - surplus :]) if surplus else places


def largest(values_C: Floats, count: int) -> Floats:
    """The `count` largest values, in descending order."""
    # numpy selects, sorts and searches a large vocabulary several times as fast as torch does on a processor.
    first = len(values_C) - count
    return np.sort(np.partition(values_C, first)[first:])[::-1]


def likeliest(logits_V: Tensor, count: int) -> list[tuple[int, float]]:
    """(id, logit) of the `count` largest logits above -inf, best first, the lowest id of equals."""
    if count == 0:
        return []
    values_V = logits_V.numpy()
    ids = np.flatnonzero(values_V >= largest(values_V, min(count, len(values_V)))[-1])
    pairs = zip(ids.tolist(), values_V[ids].tolist(), strict=True)
    return sorted((pair for pair in pairs if pair[1] > -math.inf), key=lambda pair: (-pair[1], pair[0]))[:count]
