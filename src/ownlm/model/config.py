"""The one configuration that every decoder follows, in config.json's own names.

The defaults are the shape that ownlm trains (Qwen3's); the files in families/ set the rest. The decoder asks this
configuration what to compute and knows no family's name.
"""

from dataclasses import dataclass

from ownlm.errors import OwnlmError
from ownlm.model.checks import choice, flag, number, whole
from ownlm.model.rope_scaling import RopeScaling

ACTIVATION_NAMES = ("silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
SLIDING, FULL = "sliding_attention", "full_attention"
# Far above any model there is, and low enough that no product of two overflows or fills a memory by itself.
_MOST = {
    "vocab_size": 2**24,
    "hidden_size": 2**18,
    "num_hidden_layers": 2**11,
    "num_attention_heads": 2**13,
    "num_key_value_heads": 2**13,
    "head_dim": 2**14,
    "intermediate_size": 2**20,
    "max_position_embeddings": 2**30,
}


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Widths count channels, positions and windows count tokens. `vocab_size` is the padded number of rows:
    ids from the tokenizer's own size up are never produced.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    max_position_embeddings: int = 1024
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6  # of every norm, LayerNorm too
    tie_word_embeddings: bool = True
    model_type: str = "qwen3"  # which file of families/ reads and writes it; the decoder never asks

    # Norms: where they stand and what they do.
    norm: str = "rms"  # or "layer": LayerNorm, with bias
    norm_offset: float = 0.0  # 1 where a norm's weight is stored as its distance from one
    pre_norm: bool = True  # before attention and before the feed-forward
    post_norm: bool = False  # after each, before it is added to the stream
    qk_norm: str = "head"  # RMSNorm of q and k over one "head", over "all" of them, or "none"
    parallel_residual: bool = False  # attention and feed-forward read the same stream

    # Attention.
    attention_bias: bool = False  # of q, k and v
    attention_output_bias: bool = False
    query_pre_attn_scalar: float | None = None  # scores are divided by its root; by default head_dim's
    attention_multiplier: float | None = None  # or multiplied by this
    attn_logit_softcapping: float | None = None
    sliding_window: int | None = None  # a token sees itself and the window - 1 before it
    layer_types: tuple[str, ...] = ()  # one a layer; none: all slide if there is a window

    # Positions: an angle (rope.py) or a learned vector added to the embedding.
    learned_positions: bool = False
    partial_rotary_factor: float = 1.0  # the part of a head that turns
    rope_scaling: RopeScaling | None = None
    rope_local_base_freq: float | None = None  # theta of sliding layers, which then are not scaled

    # Feed-forward.
    hidden_act: str = "silu"
    gated: bool = True
    mlp_bias: bool = False
    num_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
    norm_topk_prob: bool = False
    decoder_sparse_step: int = 1
    mlp_only_layers: tuple[int, ...] = ()

    # Multipliers of the stream, and the head.
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_scaling: float = 1.0  # logits are divided by it
    final_logit_softcapping: float | None = None

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            whole(name, getattr(self, name), most=most)
        self._check_choices()
        self._check_numbers()
        self._check_layers()
        if self.num_attention_heads % self.num_key_value_heads:
            raise OwnlmError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})"
            )
        if not self.learned_positions:
            self._check_rope()

    def _check_choices(self) -> None:
        choice("norm", self.norm, ("rms", "layer"))
        choice("qk_norm", self.qk_norm, ("head", "all", "none"))
        choice("hidden_act", self.hidden_act, ACTIVATION_NAMES)
        for name in ("tie_word_embeddings", "pre_norm", "post_norm", "parallel_residual", "attention_bias"):
            flag(name, getattr(self, name))
        for name in ("attention_output_bias", "learned_positions", "gated", "mlp_bias", "norm_topk_prob"):
            flag(name, getattr(self, name))
        if not (self.pre_norm or self.post_norm):
            raise OwnlmError("a decoder needs norms: pre_norm, post_norm or both")
        if self.parallel_residual and (self.post_norm or not self.pre_norm):
            raise OwnlmError("a parallel residual goes with norms before attention and feed-forward alone")

    def _check_numbers(self) -> None:
        number("rope_theta", self.rope_theta, least=1.5)
        number("rms_norm_eps", self.rms_norm_eps, most=1.0)
        number("norm_offset", self.norm_offset, most=1.0)
        for name in ("embedding_multiplier", "residual_multiplier", "logits_scaling"):
            number(name, getattr(self, name), least=1e-6, most=1e6)
        for name in ("query_pre_attn_scalar", "attention_multiplier", "attn_logit_softcapping"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), least=1e-6, most=1e6)
        if self.final_logit_softcapping is not None:
            number("final_logit_softcapping", self.final_logit_softcapping, least=1e-6, most=1e6)

    def _check_layers(self) -> None:
        if self.sliding_window is not None:
            whole("sliding_window", self.sliding_window)
        for kind in self.layer_types:
            choice("layer_types", kind, (SLIDING, FULL))
        if self.layer_types and len(self.layer_types) != self.num_hidden_layers:
            raise OwnlmError(
                f"layer_types names {len(self.layer_types)} layers, num_hidden_layers is {self.num_hidden_layers}"
            )
        if SLIDING in self.layer_types and self.sliding_window is None:
            raise OwnlmError("layer_types has sliding layers, but there is no sliding_window")
        whole("num_experts", self.num_experts, least=0, most=2**12)
        if self.num_experts:
            whole("num_experts_per_tok", self.num_experts_per_tok, most=self.num_experts)
            whole("moe_intermediate_size", self.moe_intermediate_size, most=2**20)
            whole("decoder_sparse_step", self.decoder_sparse_step)
            for layer in self.mlp_only_layers:
                whole("mlp_only_layers", layer, least=0)

    def _check_rope(self) -> None:
        number("partial_rotary_factor", self.partial_rotary_factor, least=1e-3, most=1.0)
        if self.rope_local_base_freq is not None:
            number("rope_local_base_freq", self.rope_local_base_freq, least=1.5)
        if self.rotary_dim < 1 or (self.rotary_dim % 2 and self.rotary_dim == self.head_dim):
            raise OwnlmError(f"head_dim must be even, for RoPE turns pairs of channels; got {self.head_dim}")
        scaling = self.rope_scaling
        for name in ("short_factor", "long_factor"):
            given, pairs = getattr(scaling, name, None), (self.rotary_dim + 1) // 2
            if given is not None and len(given) != pairs:
                raise OwnlmError(f"rope_scaling's {name} has {len(given)} numbers, RoPE turns {pairs} pairs")
        if scaling is not None and scaling.rope_type == "dynamic" and self.rotary_dim == 2:
            raise OwnlmError("rope_scaling of type dynamic needs more than one pair of channels")

    @property
    def rotary_dim(self) -> int:
        """How many channels of a head turn with the position; an odd number is rounded up by rope.py."""
        return int(self.head_dim * self.partial_rotary_factor)

    @property
    def attention_scale(self) -> float:
        """What the product of a query and a key is multiplied by."""
        if self.attention_multiplier is not None:
            return self.attention_multiplier
        return float((self.query_pre_attn_scalar or self.head_dim) ** -0.5)

    def slides(self, layer: int) -> bool:
        return self.layer_types[layer] == SLIDING if self.layer_types else self.sliding_window is not None

    def window(self, layer: int) -> int | None:
        """How many tokens, itself among them, a token of `layer` sees; None: all before it."""
        return self.sliding_window if self.slides(layer) else None

    def is_sparse(self, layer: int) -> bool:
        """Is the feed-forward of `layer` a choice of experts?"""
        return (
            self.num_experts > 0 and layer not in self.mlp_only_layers and (layer + 1) % self.decoder_sparse_step == 0
        )
