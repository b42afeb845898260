"""Rows for new tokens in a decoder's embedding and head, each the mean of the rows that tokens have.

From the mean a new token's score is about the average one, so that it takes next to no probability from the others;
a row of small random numbers has a score near 0, which among trained scores, mostly far below, can be the highest
(Hewitt, "Initializing New Word Embeddings for Pretrained Language Models", 2021). Rows that only pad the vocabulary
are used before new ones are made, and are no part of the mean.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from ownlm.model.decoder import Decoder

# Products run best on so many rows; a vocabulary that is a multiple of it stays one.
_MULTIPLE = 64


@torch.no_grad()
def add_rows(decoder: Decoder, *, used: int, new: int) -> None:
    """Of `used` rows, which tokens have, and the `new` ones that follow. Before packing; a tied head stays tied."""
    assert decoder.outward.kernel is None
    rows = decoder.config.vocab_size
    wanted = max(rows, used + new)
    if rows % _MULTIPLE == 0:
        wanted = -(-wanted // _MULTIPLE) * _MULTIPLE
    decoder.config = replace(decoder.config, vocab_size=wanted)

    def grown(weight_VE: Tensor) -> nn.Parameter:
        mean_E = weight_VE[:used].float().mean(0).to(weight_VE.dtype)
        more_VE = torch.cat((weight_VE, mean_E.expand(wanted - rows, -1)))
        more_VE[used : used + new] = mean_E
        return nn.Parameter(more_VE)

    embedding, head = decoder.model.embed_tokens, decoder.lm_head
    embedding.weight, embedding.num_embeddings = grown(embedding.weight), wanted
    head.out_features = wanted
    if decoder.config.tie_word_embeddings:
        decoder.tie()
    else:
        head.weight = grown(head.weight)
    decoder.places["lm_head"] = (decoder.outward, slice(0, wanted))
