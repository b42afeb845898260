"""The feed-forward half of a block: each token thinks about what attention brought it.

SwiGLU (arXiv:2002.05202): down( silu(gate x) * up x ).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ownlm.model.config import DecoderConfig


class FeedForward(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x_BTE: Tensor) -> Tensor:
        merged = torch.cat((self.gate_proj.weight, self.up_proj.weight))
        gate, up = F.linear(x_BTE, merged).chunk(2, dim=-1)
        down: Tensor = self.down_proj(F.silu(gate) * up)
        return down
