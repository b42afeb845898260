"""Self-attention: every token gathers from the tokens before it what it needs.

In:  x_BTE, the RoPE tables, who may see whom. Out: the same shape.

    x ─┬─ q_proj ─ q_norm ─ rope ─┐
       ├─ k_proj ─ k_norm ─ rope ─┼─ softmax(q k * scale) v ── o_proj
       └─ v_proj ─────────────────┘

Sources: Attention Is All You Need (arXiv:1706.03762), grouped queries (arXiv:2305.13245),
QK-norm (arXiv:2302.05442), capped scores (Gemma 2, arXiv:2408.00118).
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ownlm.model.cache import AttentionCache
from ownlm.model.config import DecoderConfig
from ownlm.model.mask import Spans, causal_mask
from ownlm.model.norm import RMSNorm
from ownlm.model.projection import Projection
from ownlm.model.rope import apply_rope


class Attention(nn.Module):
    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.key_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = config.head_dim
        self.scale, self.cap = config.attention_scale, config.attn_logit_softcapping
        self.window = config.window(layer)
        queries, keys = self.heads * self.head_dim, self.key_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=config.attention_output_bias)
        self.inward, self.outward = Projection(self.q_proj, self.k_proj, self.v_proj), Projection(self.o_proj)
        # Over one head, or over all of them as one vector.
        self.norms_all = config.qk_norm == "all"
        sizes = (queries, keys) if self.norms_all else (self.head_dim, self.head_dim)
        self.q_norm, self.k_norm = (
            None if config.qk_norm == "none" else RMSNorm(size, config.rms_norm_eps, config.norm_offset)
            for size in sizes
        )

    def forward(
        self,
        x_BTE: Tensor,
        rope: tuple[Tensor, Tensor] | None,
        seen: Tensor | Spans | None,
        cache: AttentionCache | None,
    ) -> Tensor:
        """`seen`: a mask [B, 1, T, S], or documents one behind the other; None means plain causal.

        With a cache, B is 1 and the cache knows who sees whom.

        `rope` None: no angles.
        """
        batch, tokens, _ = x_BTE.shape
        q, k, v = self.inward.parts(x_BTE)
        q_BTHD = self._normed(q, self.q_norm).view(batch, tokens, self.heads, self.head_dim)
        k_BTKD = self._normed(k, self.k_norm).view(batch, tokens, self.key_heads, self.head_dim)
        v_BKTD = v.view(batch, tokens, self.key_heads, self.head_dim).transpose(1, 2)
        q_BHTD, k_BKTD = q_BTHD.transpose(1, 2), k_BTKD.transpose(1, 2)
        if rope is not None:
            q_BHTD, k_BKTD = apply_rope(q_BHTD, *rope), apply_rope(k_BKTD, *rope)
        q_BHTD, k_BKTD = q_BHTD.to(v_BKTD.dtype), k_BKTD.to(v_BKTD.dtype)
        if cache is not None:
            k_NKD, v_NKD = k_BKTD[0].transpose(0, 1), v_BKTD[0].transpose(0, 1)
            mixed_BHTD = cache.attend(
                self.layer, q_BHTD[0], k_NKD, v_NKD, window=self.window, scale=self.scale, cap=self.cap
            ).unsqueeze(0)
        elif self.cap is not None:
            assert not isinstance(seen, Spans)
            mask = causal_mask(tokens, None, x_BTE.device) if seen is None else seen
            mixed_BHTD = capped_attention(q_BHTD, k_BKTD, v_BKTD, mask, scale=self.scale, cap=self.cap)
        else:
            mixed_BHTD = plain_attention(q_BHTD, k_BKTD, v_BKTD, seen, scale=self.scale)
        mixed_BTE = mixed_BHTD.transpose(1, 2).reshape(batch, tokens, -1)
        return self.outward(mixed_BTE)

    def _normed(self, x_BTd: Tensor, norm: RMSNorm | None) -> Tensor:
        if norm is None:
            return x_BTd
        return cast(Tensor, norm(x_BTd if self.norms_all else x_BTd.view(*x_BTd.shape[:-1], -1, self.head_dim)))


def plain_attention(
    q_BHTD: Tensor, k_BKTD: Tensor, v_BKTD: Tensor, seen: Tensor | Spans | None, *, scale: float
) -> Tensor:
    batch, heads, tokens, dim = q_BHTD.shape
    grouped = heads != k_BKTD.shape[1]
    attend = F.scaled_dot_product_attention
    if not isinstance(seen, Spans):
        causal = seen is None
        return attend(q_BHTD, k_BKTD, v_BKTD, attn_mask=seen, is_causal=causal, scale=scale, enable_gqa=grouped)
    mixed = []
    for row, first, end in seen.places:
        q, k, v = (x[row : row + 1, :, first:end] for x in (q_BHTD, k_BKTD, v_BKTD))
        mixed.append(attend(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped))
    # The rows one behind the other, as the spans were.
    return torch.cat(mixed, 2).view(heads, batch, tokens, dim).transpose(0, 1)


def capped_attention(
    q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, mask_BxTS: Tensor, *, scale: float, cap: float
) -> Tensor:
    """Attention whose scores cannot leave (-cap, cap); torch's own product has no place for the tanh."""
    batch, _, tokens, dim = q_BHTD.shape
    q_BKGTD = q_BHTD.reshape(batch, k_BKSD.shape[1], -1, tokens, dim)
    scores = (q_BKGTD @ k_BKSD.unsqueeze(2).mT).float() * scale
    scores = (cap * torch.tanh(scores / cap)).masked_fill(~mask_BxTS.unsqueeze(2), -torch.inf)
    return (scores.softmax(-1).to(v_BKSD.dtype) @ v_BKSD.unsqueeze(2)).flatten(1, 2)
