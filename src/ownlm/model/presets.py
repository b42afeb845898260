"""One dial, `depth`, from which a model's shape follows; and which depth a budget of compute can feed.

width         32 x depth, rounded up to a multiple of 64, and at least 128. The ratio of width to
              depth hardly matters over a wide range (Kaplan et al., arXiv:2001.08361, figure 5); thin and deep
              is kept while a layer is still large enough to keep a processor busy.
heads         width / 64: 64 channels a head, as GPT-2 and Llama have them. Keys and values are shared by pairs
              of query heads from 8 heads on (arXiv:2305.13245), where the cache begins to matter.
feed-forward  8/3 x width, rounded up to a multiple of 64: as many weights as GPT's 4 x (arXiv:2002.05202).
head          tied to the embedding up to 16 layers: below about 100 M parameters the table would be most of the model.
"""

from dataclasses import dataclass

from ownlm.errors import OwnlmError
from ownlm.model.config import DecoderConfig
from ownlm.model.count import parameter_count, training_flops_per_token

HEAD_DIM = 64
LEAST_WIDTH = 128
DEPTHS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
# Tokens a parameter that a model should see at least. 20 is optimal when a model is trained once and only its loss
# counts (Chinchilla, arXiv:2203.15556); minutes on a laptop cannot pay for it. docs/LOG.md: at equal time two layers
# predict text better than four, but expressions need depth, and this lies between.
TOKENS_A_PARAMETER = 3.0


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """A recipe's `model:` section: `depth`, and any width that is to differ from what follows from it."""

    depth: int = 4
    hidden_size: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    intermediate_size: int | None = None
    tie_word_embeddings: bool | None = None
    rope_theta: float = 10_000.0

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise OwnlmError(f"model: depth must be at least 1, got {self.depth}")

    def config(self, *, vocab_size: int, context: int) -> DecoderConfig:
        """The full configuration, for a padded vocabulary and the longest context that training shows it."""
        hidden = self.hidden_size or max(LEAST_WIDTH, _multiple_of_64(32 * self.depth))
        head_dim = self.head_dim or HEAD_DIM
        heads = self.num_attention_heads or max(1, hidden // head_dim)
        shared = heads // 2 if heads >= 8 and heads % 2 == 0 else heads
        tied = self.depth <= 16 if self.tie_word_embeddings is None else self.tie_word_embeddings
        return DecoderConfig(
            vocab_size=vocab_size,
            hidden_size=hidden,
            num_hidden_layers=self.depth,
            num_attention_heads=heads,
            num_key_value_heads=self.num_key_value_heads or shared,
            head_dim=head_dim,
            intermediate_size=self.intermediate_size or _multiple_of_64(8 * hidden / 3),
            max_position_embeddings=context,
            rope_theta=self.rope_theta,
            tie_word_embeddings=tied,
        )


def affordable_depth(*, flops: float, vocab_size: int, context: int) -> int:
    """The largest depth of DEPTHS that `flops` can show TOKENS_A_PARAMETER tokens for each parameter."""
    best = DEPTHS[0]
    for depth in DEPTHS:
        config = ModelShape(depth=depth).config(vocab_size=vocab_size, context=context)
        tokens = flops / training_flops_per_token(config, context)
        if tokens >= TOKENS_A_PARAMETER * parameter_count(config):
            best = depth
    return best


def _multiple_of_64(size: float) -> int:
    return max(64, -(-int(-(-size // 1)) // 64) * 64)
