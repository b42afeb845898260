"""The feed-forward half of a block: each token thinks about what attention brought it.

Gated (SwiGLU and its kin, arXiv:2002.05202):  down( act(gate x) * up x )
Plain, as the first transformers had it:       down( act(up x) )
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
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
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return self.outward(cast(Tensor, _Gated.apply(self.activation, gate, up)))  # type: ignore[no-untyped-call]
        return self.outward(self.activation(gate) * up)


class _Gated(torch.autograd.Function):
    """activation(gate) * up, the same bits; for the gradient gate and up alone are kept."""

    @staticmethod
    def forward(ctx: Any, activation: Callable[[Tensor], Tensor], gate: Tensor, up: Tensor) -> Tensor:
        ctx.activation = activation
        ctx.save_for_backward(gate, up)
        return activation(gate) * up

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[None, Tensor, Tensor]:
        (d_out,) = upstream
        gate, up = ctx.saved_tensors
        with torch.enable_grad():
            gate = gate.detach().requires_grad_()
            acted = ctx.activation(gate)
        (d_gate,) = torch.autograd.grad(acted, gate, d_out * up)
        return None, d_gate, d_out * acted.detach()
