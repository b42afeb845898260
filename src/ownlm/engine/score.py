"""How likely a model finds given tokens: what multiple choice and the bits of a text are made of.

In:  pairs of ids, (context, continuation). Out: of each the log-probability, in nats, of every continuation token.

    pairs      a b | c d     a b | e f g     h | i j        sorted by length, those of one context together
    row        a b c e f h i                                the context once, no padding, a few pairs a pass
    positions  0 1 2 2 3 0 1                                a continuation's last token is foretold, never read
    asked of   b: c, e   c: d   e: f   f: g   h: i   i: j   no other place goes through the head

A continuation sees its context and itself; what shares the row changes a score by the last bits of a product alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ownlm.engine.attend import mix
from ownlm.errors import OwnlmError
from ownlm.model import Decoder
from ownlm.model.lora import LoraAdapter, adapted
from ownlm.model.mask import within

Pair = tuple[list[int], list[int]]
# Tells how many tokens of how many have been read.
Read = Callable[[int, int], None]

STEP_TOKENS = 512
# Logits that are held at once.
_MOST_LOGITS = 2**24


@dataclass(frozen=True, kw_only=True)
class _Tree:
    """A context and what may follow it; `branches` are (index of the pair, its continuation)."""

    context: list[int]
    branches: list[tuple[int, list[int]]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Tokens that are read."""
        return len(self.context) + sum(len(branch) - 1 for _, branch in self.branches)


def log_likelihoods(
    model: Decoder, pairs: Sequence[Pair], *, step_tokens: int = STEP_TOKENS, adapter: LoraAdapter | None = None
) -> list[float]:
    """Sum of log-probabilities (nats) of each continuation after its context, both as ids.

    A pair longer than the model's context loses the start of its context.
    """
    return [sum(nats) for nats in token_log_likelihoods(model, pairs, step_tokens=step_tokens, adapter=adapter)]


@torch.inference_mode()
def token_log_likelihoods(
    model: Decoder,
    pairs: Sequence[Pair],
    *,
    step_tokens: int = STEP_TOKENS,
    adapter: LoraAdapter | None = None,
    progress: Read | None = None,
) -> list[list[float]]:
    """The same token by token; of a continuation longer than the model's context, the last tokens alone.

    `step_tokens`: how many are read in one pass, where a pair leaves a choice.
    """
    if not all(context for context, _ in pairs):
        raise OwnlmError("a context needs at least one token, for a text's first token follows from nothing")
    results: list[list[float]] = [[] for _ in pairs]
    trees = _trees(model, pairs, step_tokens)
    total, done = sum(tree.size for tree in trees), 0
    for group in _groups(trees, step_tokens):
        asked = [index for tree in group for index, branch in tree.branches for _ in branch]
        for index, nats in zip(asked, _read(model, group, adapter), strict=True):
            results[index].append(nats)
        done += sum(tree.size for tree in group)
        if progress is not None:
            progress(done, total)
    return results


def _trees(model: Decoder, pairs: Sequence[Pair], step_tokens: int) -> list[_Tree]:
    """The pairs by context, short ones first."""
    scaling, limit = model.config.rope_scaling, model.config.max_position_embeddings
    # Where angles depend on a text's length, a context is another one in each text.
    share = scaling is None or not scaling.by_length
    trees: list[_Tree] = []
    open_trees: dict[tuple[int, ...], _Tree] = {}
    for index, (context, continuation) in enumerate(pairs):
        if not continuation:
            continue
        kept = continuation[-limit:]
        front = (
            context[-(limit + 1 - len(kept)) :] if len(kept) == len(continuation) else continuation[-limit - 1 :][:1]
        )
        tree = open_trees.get(tuple(front)) if share else None
        if tree is None or tree.size + len(kept) > max(step_tokens, len(front)):
            tree = open_trees[tuple(front)] = _Tree(context=front)
            trees.append(tree)
        tree.branches.append((index, kept))
    return sorted(trees, key=lambda tree: tree.size)


def _groups(trees: Sequence[_Tree], step_tokens: int) -> Iterator[list[_Tree]]:
    group: list[_Tree] = []
    for tree in trees:
        if group and sum(one.size for one in group) + tree.size > step_tokens:
            yield group
            group = []
        group.append(tree)
    if group:
        yield group


def _read(model: Decoder, trees: Sequence[_Tree], adapter: LoraAdapter | None) -> list[float]:
    """One pass; the log-probabilities of all branches' tokens, one after the other."""
    tokens: list[int] = []
    positions: list[int] = []
    lengths: list[int] = []
    places: list[int] = []
    targets: list[int] = []
    attention = _TreeAttention()
    for tree in trees:
        start, known = len(tokens), len(tree.context)
        tokens += tree.context
        positions += range(known)
        branches: list[slice] = []
        attention.trees.append((slice(start, start + known), branches))
        for _, branch in tree.branches:
            own = slice(len(tokens), len(tokens) + len(branch) - 1)
            tokens += branch[:-1]
            positions += range(known, known + len(branch) - 1)
            places += [start + known - 1, *range(own.start, own.stop)]
            targets += branch
            if own.start < own.stop:
                branches.append(own)
        # One number for all: where it matters, a tree has one branch.
        lengths += [known + max(len(branch) for _, branch in tree.branches) - 1] * tree.size
    device = model.device
    with nullcontext() if adapter is None else adapted(model, [(slice(0, len(tokens)), adapter)]):
        hidden_1NE = model.hidden(
            torch.tensor([tokens], device=device),
            torch.tensor([positions], device=device),
            cache=attention,
            lengths_BT=torch.tensor([lengths], device=device),
        )
    nats: list[float] = []
    rows = max(1, _MOST_LOGITS // model.config.vocab_size)
    for first in range(0, len(places), rows):
        logits_RV = model.head(hidden_1NE[0, torch.tensor(places[first : first + rows], device=device)])
        if device.type == "mps":
            logits_RV = logits_RV.cpu()  # it has no float64
        targets_R = torch.tensor(targets[first : first + rows], device=logits_RV.device)
        # In float32 the sum over a vocabulary of 49,152 is wrong by 1e-5, every time in the same direction.
        nats += (-F.cross_entropy(logits_RV.double(), targets_R, reduction="none")).tolist()
    return nats


class _TreeAttention:
    """What the decoder calls in every layer; see model/cache.py. Nothing is kept from one pass to the next."""

    def __init__(self) -> None:
        self.trees: list[tuple[slice, list[slice]]] = []
        self._masks: dict[tuple[int, int, int | None], Tensor | None] = {}

    def attend(
        self,
        layer: int,
        q_HND: Tensor,
        k_NKD: Tensor,
        v_NKD: Tensor,
        *,
        window: int | None,
        scale: float,
        cap: float | None,
    ) -> Tensor:
        mixed_HND = torch.empty_like(q_HND)
        k_KND, v_KND = k_NKD.transpose(0, 1), v_NKD.transpose(0, 1)
        for context, branches in self.trees:
            for own in (context, *branches):
                k_KSD, v_KSD = k_KND[:, own], v_KND[:, own]
                if own is not context:
                    k_KSD = torch.cat((k_KND[:, context], k_KSD), dim=1)
                    v_KSD = torch.cat((v_KND[:, context], v_KSD), dim=1)
                mask = self._mask(own.stop - own.start, k_KSD.shape[1], window, q_HND.device)
                mixed_HND[:, own] = mix(q_HND[None, :, own], k_KSD[None], v_KSD[None], mask, scale, cap)[0]
        return mixed_HND

    def _mask(self, count: int, keys: int, window: int | None, device: torch.device) -> Tensor | None:
        """[1, 1, T, S]; None where plain causal attention is right."""
        sizes = (count, keys, window)
        if sizes not in self._masks:
            plain = (count == keys or count == 1) and (window is None or keys <= window)
            seen_TS = None if plain else torch.ones(count, keys, dtype=torch.bool, device=device).tril(keys - count)
            self._masks[sizes] = None if seen_TS is None else within(seen_TS, window)[None, None]
        return self._masks[sizes]
