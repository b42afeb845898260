"""Self-attention: every token gathers from the tokens before it what it needs.

In:  x_BTE, the RoPE tables, who may see whom. Out: the same shape.

    x ─┬─ q_proj ─ q_norm ─ rope ─┐
       ├─ k_proj ─ k_norm ─ rope ─┼─ softmax(q k / sqrt(D)) v ── o_proj
       └─ v_proj ─────────────────┘

Sources: Attention Is All You Need (arXiv:1706.03762), grouped queries (arXiv:2305.13245),
QK-norm (arXiv:2302.05442).
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ownlm.model.cache import KeyValueCache
from ownlm.model.config import DecoderConfig
from ownlm.model.norm import RMSNorm
from ownlm.model.rope import apply_rope


class Attention(nn.Module):
    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.key_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = config.head_dim
        queries, keys = self.heads * self.head_dim, self.key_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)
        self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps)

    def forward(
        self,
        x_BTE: Tensor,
        rope: tuple[Tensor, Tensor],
        mask_BxTS: Tensor | None,
        cache: KeyValueCache | None,
    ) -> Tensor:
        """`mask_BxTS` None means plain causal, which is only right without a cache."""
        batch, tokens, _ = x_BTE.shape
        # One product instead of three; the parameters stay apart, as LoRA, Muon and saving want them.
        merged = torch.cat((self.q_proj.weight, self.k_proj.weight, self.v_proj.weight))
        heads_BTHD = F.linear(x_BTE, merged).view(batch, tokens, -1, self.head_dim)
        q_BTHD, k_BTKD, v_BTKD = torch.split(heads_BTHD, [self.heads, self.key_heads, self.key_heads], dim=2)
        q_BHTD = apply_rope(self.q_norm(q_BTHD).transpose(1, 2), *rope).to(v_BTKD.dtype)
        k_BKTD = apply_rope(self.k_norm(k_BTKD).transpose(1, 2), *rope).to(v_BTKD.dtype)
        v_BKTD = v_BTKD.transpose(1, 2)
        if cache is not None:
            k_BKTD, v_BKTD = cache.extend(self.layer, k_BKTD, v_BKTD)
        mixed_BHTD = F.scaled_dot_product_attention(
            q_BHTD,
            k_BKTD.to(q_BHTD.dtype),
            v_BKTD.to(q_BHTD.dtype),
            attn_mask=mask_BxTS,
            is_causal=mask_BxTS is None,
            enable_gqa=self.heads != self.key_heads,
        )
        mixed_BTE = mixed_BHTD.transpose(1, 2).reshape(batch, tokens, -1)
        return cast(Tensor, self.o_proj(mixed_BTE))


def packed_mask(documents_BT: Tensor) -> Tensor:
    """Causal, and never from one packed document into another: [B, 1, T, T] of booleans."""
    same_BTS = documents_BT.unsqueeze(2) == documents_BT.unsqueeze(1)
    return same_BTS.tril().unsqueeze(1)
