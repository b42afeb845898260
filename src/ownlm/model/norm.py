"""RMSNorm: scale a vector to unit root mean square, then by a learned gain (arXiv:1910.07467)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # In the weight's own precision: bfloat16 in with float32 weights is slow and warns.
        return F.rms_norm(x.to(self.weight.dtype), self.weight.shape, self.weight, self.eps)
