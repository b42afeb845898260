"""Norms: bring a vector to unit size, then scale it by a learned gain.

RMSNorm divides by the root mean square (arXiv:1910.07467); LayerNorm subtracts the mean before, and has a bias
(arXiv:1607.06450).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ownlm.model.config import DecoderConfig


class RMSNorm(nn.Module):
    """`offset`: what is added to the stored weight; 1 in families that keep the distance from one."""

    def __init__(self, size: int, eps: float, offset: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((size,), 1 - offset))
        self.eps, self.offset = eps, offset

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight + self.offset if self.offset else self.weight
        # In the weight's own precision: bfloat16 in with float32 weights is slow and warns.
        return F.rms_norm(x.to(weight.dtype), weight.shape, weight, self.eps)


class LayerNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


def make_norm(config: DecoderConfig, size: int) -> RMSNorm | LayerNorm:
    """The norm of the stream, as `config` has it."""
    if config.norm == "layer":
        return LayerNorm(size, eps=config.rms_norm_eps)
    return RMSNorm(size, config.rms_norm_eps, config.norm_offset)
