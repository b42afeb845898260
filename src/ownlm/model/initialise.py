"""All initialisation, in one place: no parameter keeps what torch put there.

Matrices that read the residual stream: normal, standard deviation 1/sqrt(fan_in), so that activations
keep their size. Matrices that write to it (o_proj, down_proj) start at zero: every block begins as the
identity and learns what to add (as in muP practice, arXiv:2203.03466, and modded-nanogpt's records).
Embeddings and the head, tied or not: normal 0.02, so that the first loss is about ln(vocab_size).
"""

import torch
from torch import nn

from ownlm.model.decoder import Decoder

EMBEDDING_DEVIATION = 0.02
_EMBEDDINGS = ("model.embed_tokens.weight", "model.embed_positions.weight", "lm_head.weight")
_WRITES_TO_STREAM = ("o_proj.weight", "down_proj.weight")


@torch.no_grad()
def initialise(model: Decoder, seed: int) -> Decoder:
    """Set every parameter of `model` from `seed`; the same seed gives the same bits on every device."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            # A bias adds nothing; a norm's gain is one, less what the norm itself adds.
            parameter.fill_(0 if name.endswith(".bias") else 1 - model.config.norm_offset)
            continue
        if name.endswith(_WRITES_TO_STREAM):
            nn.init.zeros_(parameter)
            continue
        embedding = name in _EMBEDDINGS
        deviation = EMBEDDING_DEVIATION if embedding else parameter.shape[1] ** -0.5
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * deviation)
    return model
