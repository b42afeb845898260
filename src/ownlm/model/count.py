"""Exact numbers of parameters and floating-point operations, from the config alone."""

from ownlm.model.config import DecoderConfig


def parameters_by_part(config: DecoderConfig) -> dict[str, int]:
    """Parameters of each part; a tied head counts once, under `embedding`."""
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    attention = config.hidden_size * (2 * queries + 2 * keys) + 2 * config.head_dim
    feed_forward = 3 * config.hidden_size * config.intermediate_size
    embedding = config.vocab_size * config.hidden_size
    return {
        "embedding": embedding,
        "attention": config.num_hidden_layers * attention,
        "feed_forward": config.num_hidden_layers * feed_forward,
        "norms": (2 * config.num_hidden_layers + 1) * config.hidden_size,
        "head": 0 if config.tie_word_embeddings else embedding,
    }


def parameter_count(config: DecoderConfig) -> int:
    return sum(parameters_by_part(config).values())


def training_flops_per_token(config: DecoderConfig, context: int) -> int:
    """Operations of forward and backward for one token among `context`, counted as PaLM does
    (arXiv:2204.02311, appendix B): 6 for each weight that multiplies, and 12 L H D T for attention.

    The lookup of an embedding multiplies nothing; the head does, tied or not.
    """
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    block = config.hidden_size * (2 * queries + 2 * keys) + 3 * config.hidden_size * config.intermediate_size
    head = config.vocab_size * config.hidden_size
    return 6 * (config.num_hidden_layers * block + head) + 12 * config.num_hidden_layers * queries * context
