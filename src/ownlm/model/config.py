"""The one configuration that every decoder follows, in config.json's own names."""

from dataclasses import dataclass

from ownlm.errors import OwnlmError


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Shape of a Qwen3-shaped decoder: RMSNorm, RoPE, grouped-query attention, QK-norm, SwiGLU, no biases.

    Widths count channels, `max_position_embeddings` tokens. `vocab_size` is the padded number of rows:
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
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        widths = ("vocab_size", "hidden_size", "num_hidden_layers", "head_dim", "intermediate_size")
        for name in (*widths, "num_attention_heads", "num_key_value_heads", "max_position_embeddings"):
            if getattr(self, name) < 1:
                raise OwnlmError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.head_dim % 2:
            raise OwnlmError(f"head_dim must be even, for RoPE turns pairs of channels; got {self.head_dim}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise OwnlmError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})"
            )
