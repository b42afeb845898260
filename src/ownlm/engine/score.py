"""How likely a model finds given tokens: what multiple choice is made of."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ownlm.errors import OwnlmError
from ownlm.model import Decoder


@torch.inference_mode()
def log_likelihoods(model: Decoder, pairs: Sequence[tuple[list[int], list[int]]], *, batch: int = 16) -> list[float]:
    """Sum of log-probabilities (nats) of each continuation after its context, both as ids.

    Rows are padded on the right, behind everything that counts: causality keeps padding without effect, and it
    takes no new positions, for some models' angles depend on the largest.
    A pair longer than the model's context loses the start of its context.
    """
    if not all(context for context, _ in pairs):
        raise OwnlmError("a context needs at least one token, for a text's first token follows from nothing")
    limit = model.config.max_position_embeddings
    results: dict[int, float] = {}
    order = sorted(range(len(pairs)), key=lambda index: len(pairs[index][0]) + len(pairs[index][1]))
    for first in range(0, len(order), batch):
        group = order[first : first + batch]
        sequences = [(pairs[index][0] + pairs[index][1])[-limit - 1 :] for index in group]
        longest = max(map(len, sequences))
        tokens_BT = torch.tensor([ids + [0] * (longest - len(ids)) for ids in sequences], device=model.device)
        last_Bx = torch.tensor([[len(ids) - 2] for ids in sequences], device=model.device)
        positions_BT = torch.arange(longest - 1, device=model.device).minimum(last_Bx)
        logits_BTV = model(tokens_BT[:, :-1], positions_BT).float()
        nats_BT = -F.cross_entropy(logits_BTV.transpose(1, 2), tokens_BT[:, 1:], reduction="none")
        for row, (index, ids) in enumerate(zip(group, sequences, strict=True)):
            continuation = min(len(pairs[index][1]), len(ids) - 1)
            results[index] = float(nats_BT[row, len(ids) - 1 - continuation : len(ids) - 1].double().sum())
    return [results[index] for index in range(len(pairs))]
