"""The rarer samplers: DRY, typical, XTC, mirostat 2. A cut gives the places of the chances that stay, ascending.

dry       lowers tokens that would go on repeating what was said    oobabooga/text-generation-webui pull 5677
typical   keeps tokens about as surprising as the whole is          arXiv:2202.00666
xtc       now and then drops all likely tokens but the least        oobabooga/text-generation-webui pull 6335
mirostat  cuts so that the text's surprise stays near a target      arXiv:2007.14966, version 2
Details as in llama.cpp, which has all four.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ownlm.engine.sampling import Sampling

# A penalty beyond this bans as surely; finite, so that a token that is the only one allowed can still be drawn.
_HIGHEST_PENALTY = 1e30

Floats = NDArray[np.floating[Any]]
Ids = NDArray[np.int64]


class Dry:
    """Don't repeat yourself: a token that would go on with a repeat of `length` tokens, allowed_length or more,
    loses multiplier * base ** (length - allowed_length).

        ... the cat sat on ... the cat sat ?      "on" would follow a repeat of length 3

    A repeat never reaches across a breaker, nor is a breaker made less likely.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._multiplier, self._base = sampling.dry_multiplier, sampling.dry_base
        self._allowed = sampling.dry_allowed_length
        self._breakers = frozenset(sampling.dry_breaker_ids)
        self._count = len(prompt)
        # Said so far, with room to grow.
        self._ids = np.zeros(2 * len(prompt) + 64, dtype=np.int64)
        self._ids[: self._count] = prompt
        # Where longer repeats cost no more, their length need not be known.
        growth = math.log(self._base)
        further = math.log(_HIGHEST_PENALTY / self._multiplier) / growth if growth else 0.0
        self._longest = self._allowed + max(0, math.ceil(further))

    def apply(self, logits_V: Tensor) -> None:
        """Change the logits in place."""
        followers, lengths = self._repeats()
        if not len(followers):
            return
        known = followers < len(logits_V)
        ids = torch.from_numpy(followers[known])
        exponent = torch.from_numpy(lengths[known] - self._allowed).double()
        penalty = (self._multiplier * self._base**exponent).clamp(max=_HIGHEST_PENALTY).float()
        # A token may follow several repeats: the longest counts, that is the lowest result.
        logits_V.scatter_reduce_(0, ids, logits_V[ids] - penalty, "amin")

    def count(self, token_id: int) -> None:
        if self._count == len(self._ids):
            self._ids = np.concatenate((self._ids, np.zeros_like(self._ids)))
        self._ids[self._count] = token_id
        self._count += 1

    def _repeats(self) -> tuple[Ids, Ids]:
        """Tokens that followed an earlier copy of the text's end, and the copies' lengths (allowed_length or more)."""
        ids = self._ids[: self._count]
        ends = np.arange(self._count - 1)
        followers: list[Ids] = []
        lengths: list[Ids] = []
        # `ends` are the places where a copy of the text's last `length` tokens ends; fewer with every round.
        for length in range(self._longest + 1):
            last = self._count - 1 - length
            goes_on = np.zeros(len(ends), dtype=bool)
            if length < self._longest and last >= 0 and int(ids[last]) not in self._breakers:
                goes_on = (ends >= length) & (ids[ends - length] == ids[last])
            if length >= self._allowed:
                stopped = ends[~goes_on]
                followers.append(ids[stopped + 1])
                lengths.append(np.full(len(stopped), length))
            ends = ends[goes_on]
            if not len(ends):
                break
        if not followers:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        next_ids, sizes = np.concatenate(followers), np.concatenate(lengths)
        breakers = np.isin(next_ids, list(self._breakers))
        return next_ids[~breakers], sizes[~breakers]


def typical(chance_C: Floats, typical_p: float) -> Ids:
    """Those whose surprise is nearest to the expected one, until they hold typical_p of the chance."""
    possible = np.flatnonzero(chance_C)
    chance = chance_C[possible].astype(np.float64)
    surprise = -np.log(chance)
    # Stable: of equals the lowest ids.
    order = np.abs(surprise - (chance * surprise).sum()).argsort(kind="stable")
    ordered = chance[order]
    count = np.count_nonzero(ordered.cumsum() - ordered < typical_p)
    kept: Ids = possible[np.sort(order[:count])]
    return kept


def xtc(chance_C: Floats, threshold: float) -> Ids:
    """All below the threshold, and of those that reach it the least likely (among equals the lowest id)."""
    keep_C = chance_C < threshold
    reach = np.flatnonzero(~keep_C)
    if len(reach):
        keep_C[reach[chance_C[reach].argmin()]] = True
    return np.flatnonzero(keep_C)


def split_uniform(uniform: float, probability: float) -> tuple[bool, float]:
    """One uniform number as a coin that is true with `probability` and an independent uniform number."""
    if uniform < probability:
        return True, _below_one(uniform / probability)
    return False, _below_one((uniform - probability) / (1 - probability))


def _below_one(number: float) -> float:
    return min(number, math.nextafter(1, 0))


class Mirostat:
    """Keeps tokens of at most mu bits of surprise, and moves mu so that what is drawn has tau bits on average."""

    def __init__(self, tau: float, eta: float) -> None:
        self._tau, self._eta = tau, eta
        self._mu = 2 * tau

    def cut(self, chance_C: Floats) -> Ids:
        # The best always stays. A chance is at most 1, so a mu below 0 says no more than 0 does.
        return np.flatnonzero(chance_C >= min(2.0 ** -max(self._mu, 0.0), float(chance_C.max())))

    def observe(self, chance: float) -> None:
        """The drawn token's chance among those that stayed."""
        self._mu -= self._eta * (-math.log2(chance) - self._tau)
