"""Bits per byte of held-out text: the figure that compares across tokenizers.

Each document is read in windows of the model's context that overlap by half, so that every token but a
document's first few has at least half a context behind it; only the new half of a window counts.

    window 1   |------ counted -------|
    window 2              |- context -|- counted -|
    window 3                          |- context -|- counted -|

The first token of a document has nothing before it, and neither its bits nor its bytes count. The end of
text is predicted like any token: its bits count, and it has no bytes.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ownlm.model import Decoder, evaluating


@dataclass(frozen=True, kw_only=True)
class TextLoss:
    """Sum over all counted tokens, in nats; so the result cannot depend on the batch."""

    nats: float
    tokens: int
    bytes: int

    @property
    def loss(self) -> float:
        """Nats a token."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    def __add__(self, other: "TextLoss") -> "TextLoss":
        return TextLoss(nats=self.nats + other.nats, tokens=self.tokens + other.tokens, bytes=self.bytes + other.bytes)


@torch.inference_mode()
def text_loss(
    model: Decoder,
    documents: Iterable[np.ndarray],
    token_bytes: np.ndarray,
    *,
    context: int,
    batch: int = 16,
    most_tokens: int | None = None,
) -> TextLoss:
    """Loss over `documents` (ids each); `token_bytes` [V] is the number of bytes of each id.

    `most_tokens` ends after about so many, for a quick look while training: always the same ones.
    """
    nats, tokens, size = 0.0, 0, 0
    group: list[tuple[np.ndarray, int]] = []

    def flush() -> None:
        nonlocal nats
        with evaluating(model):
            nats += _window_nats(model, group)
        group.clear()

    for window, fresh in windows(documents, context):
        group.append((window, fresh))
        tokens += fresh
        size += int(token_bytes[window[-fresh:]].sum())
        if len(group) == batch:
            flush()
        if most_tokens is not None and tokens >= most_tokens:
            break
    if group:
        flush()
    return TextLoss(nats=nats, tokens=tokens, bytes=size)


def windows(documents: Iterable[np.ndarray], context: int) -> Iterator[tuple[np.ndarray, int]]:
    """(ids, how many of the last are counted); at most context + 1 ids, of which the first is input only."""
    stride = max(1, context // 2)
    for ids in documents:
        counted = 1
        while counted < len(ids):
            stop = min(len(ids), counted + (context if counted == 1 else stride))
            yield ids[max(0, stop - context - 1) : stop], stop - counted
            counted = stop


def _window_nats(model: Decoder, group: list[tuple[np.ndarray, int]]) -> float:
    longest = max(len(window) for window, _ in group)
    tokens = np.zeros((len(group), longest), dtype=np.int64)
    counted = np.zeros((len(group), longest), dtype=bool)
    for row, (window, fresh) in enumerate(group):
        tokens[row, : len(window)] = window
        counted[row, len(window) - fresh : len(window)] = True
    tokens_BT = torch.from_numpy(tokens).to(model.device)
    counted_BT = torch.from_numpy(counted).to(model.device)[:, 1:]
    # Padding takes no new positions: some models' angles depend on the largest.
    last_Bx = torch.tensor([[len(window) - 2] for window, _ in group], device=model.device)
    positions_BT = torch.arange(longest - 1, device=model.device).minimum(last_Bx)
    logits_NV = model.head(model.hidden(tokens_BT[:, :-1], positions_BT)[counted_BT])
    return float(F.cross_entropy(logits_NV.float(), tokens_BT[:, 1:][counted_BT], reduction="sum"))
