"""A mixture of experts: many feed-forwards, of which each token asks the few that a router chooses for it.

    x ─ gate ─ softmax ─ the k most likely experts ─ sum of p_i * expert_i(x)

Sources: arXiv:1701.06538, arXiv:2101.03961; the shape is that of Qwen3's (arXiv:2505.09388).
"""

import torch
from torch import Tensor, nn

from ownlm.model.config import DecoderConfig
from ownlm.model.feed_forward import FeedForward


class Experts(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.chosen, self.renormalised = config.num_experts_per_tok, config.norm_topk_prob
        self.gate = nn.Linear(config.hidden_size, config.num_experts, bias=False)
        self.experts = nn.ModuleList(
            FeedForward(config, config.moe_intermediate_size) for _ in range(config.num_experts)
        )

    def route(self, x_NE: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and numbers of the chosen experts, each [N, k], the likeliest first."""
        weights_Nk, experts_Nk = self.gate(x_NE).float().softmax(-1).topk(self.chosen)
        if self.renormalised:
            weights_Nk = weights_Nk / weights_Nk.sum(-1, keepdim=True)
        return weights_Nk, experts_Nk

    def forward(self, x_BTE: Tensor) -> Tensor:
        x_NE = x_BTE.flatten(0, 1)
        weights_Nk, experts_Nk = self.route(x_NE)
        out_NE = torch.zeros_like(x_NE)
        # Each expert reads its own tokens alone: the work is that of k experts, however many there are.
        for expert in torch.unique(experts_Nk).tolist():
            token, place = (experts_Nk == expert).nonzero(as_tuple=True)
            thought = self.experts[expert](x_NE[token]) * weights_Nk[token, place].unsqueeze(1)
            out_NE = out_NE.index_add(0, token, thought.to(out_NE.dtype))
        return out_NE.view_as(x_BTE)
