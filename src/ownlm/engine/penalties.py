"""Penalties on what was said already, kept as running counts over the vocabulary.

repetition_penalty   prompt and answer   positive logits are divided, negative ones multiplied (arXiv:1909.05858)
frequency_penalty    answer              less this much a time that the token was drawn (OpenAI's definition)
presence_penalty     answer              less this much when it was drawn at all
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ownlm.engine.sampling import Sampling


class Penalties:
    """The counts of one answer."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._repetition = sampling.repetition_penalty
        self._frequency = sampling.frequency_penalty
        self._presence = sampling.presence_penalty
        self._prompt = prompt
        self._seen_V: np.ndarray | None = None  # whether in the prompt or the answer
        self._drawn_V: Tensor | None = None  # how often in the answer

    @staticmethod
    def wanted(sampling: Sampling) -> bool:
        return (sampling.repetition_penalty, sampling.frequency_penalty, sampling.presence_penalty) != (1, 0, 0)

    def apply(self, logits_V: Tensor) -> None:
        """Change the logits in place."""
        seen_V, drawn_V = self._counts(len(logits_V))
        if self._repetition != 1:
            ids = torch.from_numpy(np.flatnonzero(seen_V))
            seen = logits_V[ids]
            logits_V[ids] = torch.where(seen > 0, seen / self._repetition, seen * self._repetition)
        if self._frequency:
            logits_V.sub_(drawn_V, alpha=self._frequency)
        if self._presence:
            logits_V.sub_(drawn_V.clamp(max=1), alpha=self._presence)

    def count(self, token_id: int) -> None:
        """A token was drawn (from logits that `apply` saw)."""
        assert self._seen_V is not None and self._drawn_V is not None
        self._seen_V[token_id] = True
        self._drawn_V[token_id] += 1

    def _counts(self, vocab_size: int) -> tuple[np.ndarray, Tensor]:
        if self._seen_V is None or self._drawn_V is None:
            # The first logits say how wide the vocabulary is; ids beyond it cannot be drawn anyway.
            prompt = np.array(self._prompt, dtype=np.int64)
            self._seen_V = np.zeros(vocab_size, dtype=bool)
            self._seen_V[prompt[prompt < vocab_size]] = True
            self._drawn_V = torch.zeros(vocab_size)
        return self._seen_V, self._drawn_V
