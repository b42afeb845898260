"""The decoder-only transformer: token ids in, a score for every possible next token out.

    tokens_BT ─ embed ─┬─(+ attention(norm x))─(+ feed_forward(norm x))─┬─ norm ─ lm_head ─ logits_BTV
                       └──────────── num_hidden_layers times ──────────┘

What differs between families (norms, windows, caps, multipliers ...) is asked of the config. Parameter names are
Hugging Face's, as Llama has them, whatever the family's files call them.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ownlm.errors import OwnlmError
from ownlm.machine import give_back_memory
from ownlm.model.attention import Attention
from ownlm.model.cache import AttentionCache
from ownlm.model.config import DecoderConfig
from ownlm.model.experts import Experts
from ownlm.model.feed_forward import FeedForward
from ownlm.model.four_bits import FourBits
from ownlm.model.mask import Spans, causal_mask, packed_mask, spans_of
from ownlm.model.norm import make_norm
from ownlm.model.projection import Dense, Projection, type_name
from ownlm.model.rope import Rope


class Block(nn.Module):
    """One layer: look around (attention), then think (feed-forward), each added to the residual stream."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()

        def norm(wanted: bool = True) -> nn.Module | None:
            return make_norm(config, config.hidden_size) if wanted else None

        self.parallel, self.post_norm = config.parallel_residual, config.post_norm
        self.multiplier = config.residual_multiplier
        self.input_layernorm = norm(config.pre_norm)
        self.self_attn = Attention(config, layer)
        # Llama named the feed-forward's norm after what it follows; where a norm also ends attention, it has the name.
        self.post_attention_layernorm = norm()
        self.pre_feedforward_layernorm = norm(config.pre_norm and config.post_norm)
        self.mlp = Experts(config) if config.is_sparse(layer) else FeedForward(config, config.intermediate_size)
        self.post_feedforward_layernorm = norm(config.post_norm)

    def forward(
        self,
        x_BTE: Tensor,
        rope: tuple[Tensor, Tensor] | None,
        seen: Tensor | Spans | None,
        cache: AttentionCache | None,
    ) -> Tensor:
        looked = self.self_attn(_through(self.input_layernorm, x_BTE), rope, seen, cache)
        if self.parallel:
            return cast(Tensor, x_BTE + looked + self.mlp(_through(self.post_attention_layernorm, x_BTE)))
        if self.post_norm:
            x_BTE = self._add(x_BTE, _through(self.post_attention_layernorm, looked))
            thought = self.mlp(_through(self.pre_feedforward_layernorm, x_BTE))
            return self._add(x_BTE, _through(self.post_feedforward_layernorm, thought))
        x_BTE = self._add(x_BTE, looked)
        return self._add(x_BTE, self.mlp(_through(self.post_attention_layernorm, x_BTE)))

    def _add(self, x_BTE: Tensor, change_BTE: Tensor) -> Tensor:
        return x_BTE + (change_BTE if self.multiplier == 1 else change_BTE * self.multiplier)


def _through(norm: nn.Module | None, x_BTE: Tensor) -> Tensor:
    return x_BTE if norm is None else cast(Tensor, norm(x_BTE))


class Trunk(nn.Module):
    """Everything below the head. Named `model` inside Decoder, as Hugging Face's parameters are."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        places = config.max_position_embeddings if config.learned_positions else 0
        self.embed_positions = nn.Embedding(places, config.hidden_size) if places else None
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = make_norm(config, config.hidden_size)


class Decoder(nn.Module):
    """A whole language model. Weights are as torch made them: see initialise.py or load.py."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Trunk(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.outward = Projection(self.lm_head)
        self.tie()
        self.rope = None if config.learned_positions else Rope(config)
        self.local_rope = Rope(config, local=True) if config.rope_local_base_freq is not None else None
        layers = range(config.num_hidden_layers)
        self.windows = [config.window(layer) for layer in layers]
        self.turns_locally = [self.local_rope is not None and config.slides(layer) for layer in layers]
        self.places = _places(self)
        # While training: keep only what enters each layer, and compute the rest again for the gradient.
        self.recompute = False

    def tie(self) -> None:
        """Make the head the embedding's own parameter, if the config has it so."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Decoder":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for rope in (self.rope, self.local_rope):
            if rope is not None:
                rope.reset(self.device)
        for projection in self.projections:
            projection.repack()
        return self

    def pack(self) -> "Decoder":
        """Ready to be asked and no longer to be trained: linear maps of one input are one product."""
        for projection in self.projections:
            if projection.kernel is None:
                projection.pack()
        # The layers' own weights lay between others: 0.19 of 0.99 GB, with SmolLM2-135M.
        give_back_memory()
        return self.requires_grad_(False)

    @property
    def projections(self) -> list[Projection]:
        return list(dict.fromkeys(projection for projection, _ in self.places.values()))

    @property
    def in_blocks(self) -> bool:
        """Are layers kept in 4-bit blocks? Then they have no parameters, and nothing can be written."""
        return any(parameter.is_meta for parameter in self.parameters())

    @property
    def arithmetic(self) -> str:
        """How linear maps are computed, in a few words: "float32", "int4 blocks (Q4_1), bfloat16 activations"."""
        kernels = [kernel for projection in self.projections if (kernel := projection.kernel) is not None]
        names = dict.fromkeys(kernel.name for kernel in kernels)
        if any(not isinstance(kernel, Dense | FourBits) for kernel in kernels):
            names["bfloat16 activations"] = None
        return ", ".join(names) or type_name(self.lm_head.weight.dtype)

    def forward(
        self, tokens_BT: Tensor, positions_BT: Tensor | None = None, documents_BT: Tensor | None = None
    ) -> Tensor:
        """Logits [B, T, V] of each next token."""
        return self.head(self.hidden(tokens_BT, positions_BT, documents_BT))

    def hidden(
        self,
        tokens_BT: Tensor,
        positions_BT: Tensor | None = None,
        documents_BT: Tensor | None = None,
        *,
        cache: AttentionCache | None = None,
        lengths_BT: Tensor | None = None,
    ) -> Tensor:
        """The last normalised hidden state [B, T, E], which the head reads.

        positions_BT: place of each token in its document; by default 0, 1, 2 ...
        documents_BT: number of the packed document that each token is of; tokens see their own alone.
        cache: holds earlier tokens of many texts, and takes these: one flat row, with their positions given.
        lengths_BT: how long each token's text is, where some angles depend on it and the call does not hold all of it.
        """
        assert cache is None or (documents_BT is None and positions_BT is not None and len(tokens_BT) == 1)
        count = tokens_BT.shape[1]
        if positions_BT is None:
            positions_BT = torch.arange(count, device=tokens_BT.device).unsqueeze(0)
        windows = set(self.windows) if cache is None else set()
        seen = {window: self._seen(count, window, documents_BT) for window in windows}
        rope = None if self.rope is None else self.rope(positions_BT, documents_BT, lengths_BT)
        local_rope = None if self.local_rope is None else self.local_rope(positions_BT, documents_BT)
        # The stream is as precise as the norms are, whatever the matrices compute in.
        x_BTE = self.model.embed_tokens(tokens_BT).to(self.model.norm.weight.dtype)
        if self.model.embed_positions is not None:
            self._check_positions(positions_BT)
            x_BTE = x_BTE + self.model.embed_positions(positions_BT)
        if self.config.embedding_multiplier != 1:
            x_BTE = x_BTE * self.config.embedding_multiplier
        for block, window, locally in zip(self.model.layers, self.windows, self.turns_locally, strict=True):
            given = (x_BTE, local_rope if locally else rope, seen.get(window), cache)
            if self.recompute and torch.is_grad_enabled():
                # Not the reentrant kind, which gives an adapter no gradient where its input needs none.
                x_BTE = checkpoint(block, *given, use_reentrant=False)
            else:
                x_BTE = block(*given)
        return cast(Tensor, self.model.norm(x_BTE))

    def _check_positions(self, positions_BT: Tensor) -> None:
        """An angle goes on for ever; a table ends."""
        most = self.config.max_position_embeddings
        if positions_BT.shape[1] > most and int(positions_BT.max()) >= most:
            raise OwnlmError(f"this model has learned {most} positions and can read no longer text; shorten it")

    def _seen(self, count: int, window: int | None, documents_BT: Tensor | None) -> Tensor | Spans | None:
        """None where plain causal attention is right."""
        if documents_BT is not None:
            # A card would wait for the spans to be known here, and has kernels that take no time for what is masked.
            by_document = documents_BT.device.type == "cpu" and self.config.attn_logit_softcapping is None
            spans = spans_of(documents_BT, window) if by_document else None
            return packed_mask(documents_BT, window) if spans is None else spans
        return None if window is None or count <= window else causal_mask(count, window, self.device)

    def head(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states of any leading shape."""
        logits = self.outward(hidden)
        if self.config.logits_scaling != 1:
            logits = logits / self.config.logits_scaling
        cap = self.config.final_logit_softcapping
        return logits if cap is None else cap * torch.tanh(logits / cap)

    @property
    def device(self) -> torch.device:
        return self.model.embed_tokens.weight.device


def _places(decoder: Decoder) -> dict[str, tuple[Projection, slice]]:
    """For every linear layer by name: the projection that computes it, and its columns in what that gives."""
    names = {id(module): name for name, module in decoder.named_modules()}
    places = {}
    for module in (*decoder.model.modules(), decoder):
        for projection in vars(module).values():
            if isinstance(projection, Projection):
                end = 0
                for layer, size in zip(projection.layers, projection.sizes, strict=True):
                    places[names[id(layer)]], end = (projection, slice(end, end + size)), end + size
    return places
