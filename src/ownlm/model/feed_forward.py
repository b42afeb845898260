"""The feed-forward half of a block: each token thinks about what attention brought it.

Gated (SwiGLU and its kin, arXiv:2002.05202):  down( act(gate x) * up x )
Plain, as the first transformers had it:       down( act(up x) )
"""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ownlm.model.config import DecoderConfig
from ownlm.model.projection import Projection

# By the names that config.json uses; config.py lists them.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "swish": F.silu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


class FeedForward(nn.Module):
    def __init__(self, config: DecoderConfig, width: int) -> None:
        super().__init__()
        bias = config.mlp_bias
        self.gate_proj = nn.Linear(config.hidden_size, width, bias=bias) if config.gated else None
        self.up_proj = nn.Linear(config.hidden_size, width, bias=bias)
        self.down_proj = nn.Linear(width, config.hidden_size, bias=bias)
        inward = (self.up_proj,) if self.gate_proj is None else (self.gate_proj, self.up_proj)
        self.inward, self.outward = Projection(*inward), Projection(self.down_proj)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Tensor) -> Tensor:
        """`x` is [..., E]."""
        if self.gate_proj is None:
            return self.outward(self.activation(self.inward(x)))
        gate, up = self.inward.parts(x)
        return self.outward(self.activation(gate) * up)
