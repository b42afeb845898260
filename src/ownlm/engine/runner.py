"""One step on the device: the turns of many texts as one flat row, and the scores that are wanted of it.

turns    a: 1 token    b: 3 of its prompt    c: 1 token and 2 drafts
row      a7            b3 b4 b5              c9 d0 d1                   positions, lengths and blocks likewise
scores   a7                                  c9 d0 d1                   b is not read to its end yet: none
"""

from collections.abc import Sequence as Items
from itertools import accumulate

import torch
from torch import Tensor

from ownlm.engine.attend import Span, attention_of
from ownlm.engine.paged_cache import PagedCache
from ownlm.engine.scheduler import Turn
from ownlm.model import Decoder
from ownlm.model.lora import LoraAdapter, adapted


class Runner:
    """`width`: ids from there on are no token's; `never`: ids that must not be drawn."""

    def __init__(self, model: Decoder, cache: PagedCache, *, width: int, never: Items[int]) -> None:
        self.model, self.cache, self.width = model, cache, width
        self.never = torch.tensor(sorted(id for id in never if id < width), dtype=torch.long)

    @torch.inference_mode()
    def run(self, turns: Items[Turn]) -> list[Tensor | None]:
        """For each turn its scores, float32 on the CPU: [1 + drafts, V] where it draws.

        Where the prompt is scored, one row for each of the turn's tokens; where it is embedded, the hidden states of
        these [count, E]; None where nothing is wanted.
        """
        tokens: list[int] = []
        positions: list[int] = []
        lengths: list[int] = []
        wanted: list[int] = []
        rows: list[int] = []
        spans: list[Span] = []
        adapters: list[tuple[slice, LoraAdapter]] = []
        for turn in turns:
            sequence, first = turn.sequence, turn.sequence.computed
            fed = [*sequence.tokens[first : first + turn.count], *turn.drafts]
            end = len(tokens) + len(fed)
            last = first + len(fed)
            # Of the whole row only what is asked for goes through the head.
            asked = len(fed) if sequence.scores_prompt else 1 + len(turn.drafts) if turn.draws else 0
            wanted += range(end - asked, end)
            rows.append(asked)
            if sequence.adapter is not None:
                adapters.append((slice(len(tokens), end), sequence.adapter))
            tokens += fed
            positions += range(first, last)
            # However the prompt is cut, its angles are those of the whole prompt; what is drawn is as long as it is.
            lengths += [max(sequence.prompt_length, position + 1) for position in range(first, last)]
            spans.append(Span(count=len(fed), length=last, blocks=sequence.blocks))
        device, config = self.model.device, self.model.config
        with adapted(self.model, adapters):
            hidden_1NE = self.model.hidden(
                torch.tensor([tokens], device=device),
                torch.tensor([positions], device=device),
                cache=attention_of(self.cache, spans, self.model.lm_head.weight.dtype, config.attn_logit_softcapping),
                lengths_BT=torch.tensor([lengths], device=device),
            )
        ends = list(accumulate(span.count for span in spans))
        states = [
            hidden_1NE[0, end - turn.count : end].float().cpu() if turn.sequence.embeds else None
            for turn, end in zip(turns, ends, strict=True)
        ]
        if not wanted:
            return list(states)
        logits_RV = self.model.head(hidden_1NE[0, torch.tensor(wanted, device=device)])
        logits_RV = logits_RV.float().cpu()
        scores = torch.split(logits_RV[:, : self.width], rows)
        for turn, part, whole in zip(turns, scores, torch.split(logits_RV, rows), strict=True):
            if turn.sequence.scores_prompt:
                # How likely a prompt is, is said of all rows of the head, as whoever evaluates the model says it.
                part -= whole.double().logsumexp(-1, keepdim=True).float()
            if turn.draws:
                # The prompt's own scores stay as they are: what may not be drawn may well stand there.
                part[-1 - len(turn.drafts) :].index_fill_(1, self.never, -torch.inf)
        return [part if len(part) else hidden for part, hidden in zip(scores, states, strict=True)]
