"""Rows of their own for some tokens, trained beside an adapter: PEFT's trainable_token_indices.

    embedding   the token's row ◀── rows_NE
    head        the token's score ◀── h · rows_NE        a tied head has the embedding's, an untied one its own or none

They stand in for the rows that the model has: what is added beside these is the difference.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ownlm.model.decoder import Decoder
from ownlm.model.projection import Adapted


class TokenRows(nn.Module):
    def __init__(self, ids: Sequence[int], embedding_NE: Tensor, head_NE: Tensor | None) -> None:
        super().__init__()
        self.ids = list(ids)
        self.embedding_NE = nn.Parameter(embedding_NE)
        self.head_NE = None if head_NE is None else nn.Parameter(head_NE)

    @classmethod
    def of(cls, decoder: Decoder, ids: Sequence[int]) -> "TokenRows":
        """As the model has them now."""
        index = torch.tensor(list(ids), device=decoder.device)
        embedding_NE = decoder.model.embed_tokens.weight.detach()[index].float()
        tied = decoder.config.tie_word_embeddings
        return cls(ids, embedding_NE, None if tied else decoder.lm_head.weight.detach()[index].float())

    @torch.no_grad()
    def merge(self, decoder: Decoder) -> None:
        embedding_VE, head_VE = decoder.model.embed_tokens.weight, decoder.lm_head.weight
        embedding_VE[self.ids] = self.embedding_NE.to(embedding_VE)
        if self.head_NE is not None:
            head_VE[self.ids] = self.head_NE.to(head_VE)

    def attach(self, decoder: Decoder) -> list[Callable[[], object]]:
        """Put them beside the decoder's own, for all tokens; calling what is returned takes them away."""
        embedding = decoder.model.embed_tokens
        count, device = len(self.ids), decoder.device
        place_V = torch.full((decoder.config.vocab_size,), count, device=device)
        place_V[self.ids] = torch.arange(count, device=device)
        difference_NE = self.embedding_NE - embedding.weight.detach()[self.ids]
        # The last row is every other token's.
        padded_NE = F.pad(difference_NE, (0, 0, 0, 1))

        def add(module: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor:
            return out + F.embedding(place_V[inputs[0]], padded_NE).to(out.dtype)

        undo: list[Callable[[], object]] = [embedding.register_forward_hook(add).remove]
        if self.head_NE is not None:
            difference_NE = self.head_NE - decoder.lm_head.weight.detach()[self.ids]
        elif not decoder.config.tie_word_embeddings:
            return undo
        # A product like an adapter's: A are the rows, B says whose they are.
        owner_VN = torch.zeros(len(place_V), count, dtype=difference_NE.dtype, device=device)
        owner_VN[self.ids, range(count)] = 1
        columns = slice(0, len(place_V))
        one = Adapted(rows=slice(None), columns=columns, a_rE=difference_NE, b_Or=owner_VN, scale=1.0)
        decoder.outward.adapted.append(one)
        return [*undo, lambda: decoder.outward.adapted.remove(one)]
