"""The decoder-only transformer: token ids in, a score for every possible next token out.

    tokens_BT ─ embed ─┬─(+ attention(norm x))─(+ feed_forward(norm x))─┬─ norm ─ lm_head ─ logits_BTV
                       └──────────── num_hidden_layers times ──────────┘

Parameter names are Hugging Face's, so that the weights open everywhere.
"""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ownlm.model.attention import Attention, packed_mask
from ownlm.model.cache import KeyValueCache
from ownlm.model.config import DecoderConfig
from ownlm.model.feed_forward import FeedForward
from ownlm.model.norm import RMSNorm
from ownlm.model.rope import rope_angles, rope_frequencies


class Block(nn.Module):
    """One layer: look around (attention), then think (feed-forward), each added to the residual stream."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = FeedForward(config)

    def forward(
        self,
        x_BTE: Tensor,
        rope: tuple[Tensor, Tensor],
        mask_BxTS: Tensor | None,
        cache: KeyValueCache | None,
    ) -> Tensor:
        x_BTE = x_BTE + self.self_attn(self.input_layernorm(x_BTE), rope, mask_BxTS, cache)
        return x_BTE + cast(Tensor, self.mlp(self.post_attention_layernorm(x_BTE)))


class Trunk(nn.Module):
    """Everything below the head. Named `model` inside Decoder, as Hugging Face's parameters are."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Decoder(nn.Module):
    """A whole language model. Weights are as torch made them: see initialise.py or load.py."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        frequencies = rope_frequencies(config.head_dim, config.rope_theta)
        self.register_buffer("rope_frequencies", frequencies, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Decoder":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        # Moved, but never rounded: a bfloat16 model's angles are taken in float32 too.
        self.rope_frequencies = rope_frequencies(self.config.head_dim, self.config.rope_theta).to(self.device)
        return self

    def forward(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """Logits [B, T, V] of each next token."""
        return self.head(self.hidden(tokens_BT, positions_BT, documents_BT, cache))

    def hidden(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """The last normalised hidden state [B, T, E], which the head reads.

        positions_BT: place of each token in its document; by default 0, 1, 2 ... (after the cache).
        documents_BT: number of the packed document that each token is of; tokens see their own alone.
        cache: keys and values of earlier tokens; extended in place. Not together with documents.
        """
        assert cache is None or documents_BT is None, "a cache holds one document a row"
        count = tokens_BT.shape[1]
        mask_BxTS = None
        if cache is not None:
            mask_BxTS = cache.mask(count)
            positions_BT = cache.positions(count) if positions_BT is None else positions_BT
        elif documents_BT is not None:
            mask_BxTS = packed_mask(documents_BT)
        if positions_BT is None:
            positions_BT = torch.arange(count, device=tokens_BT.device).unsqueeze(0)
        rope = rope_angles(positions_BT, self.rope_frequencies)
        x_BTE = self.model.embed_tokens(tokens_BT)
        for block in self.model.layers:
            x_BTE = block(x_BTE, rope, mask_BxTS, cache)
        if cache is not None:
            cache.advance(count)
        return cast(Tensor, self.model.norm(x_BTE))

    def head(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states of any leading shape."""
        return F.linear(hidden, self.lm_head.weight)

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device
