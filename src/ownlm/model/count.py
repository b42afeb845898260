"""Exact numbers of parameters and floating-point operations, from the config alone."""

from ownlm.model.config import DecoderConfig


def parameters_by_part(config: DecoderConfig) -> dict[str, int]:
    """Parameters of each part; a tied head counts once, under `embedding`, as learned positions do."""
    hidden, layers = config.hidden_size, config.num_hidden_layers
    queries, keys = _attention_widths(config)
    attention = hidden * (2 * queries + 2 * keys)
    attention += (queries + 2 * keys) * config.attention_bias + hidden * config.attention_output_bias
    attention += {"head": 2 * config.head_dim, "all": queries + keys, "none": 0}[config.qk_norm]
    dense = _feed_forward(config, config.intermediate_size)
    sparse = hidden * config.num_experts + config.num_experts * _feed_forward(config, config.moe_intermediate_size)
    norm = hidden * (2 if config.norm == "layer" else 1)
    norms_a_layer = 4 if config.pre_norm and config.post_norm else 2
    table = config.vocab_size * hidden
    return {
        "embedding": table + (config.max_position_embeddings * hidden if config.learned_positions else 0),
        "attention": layers * attention,
        "feed_forward": sum(sparse if config.is_sparse(layer) else dense for layer in range(layers)),
        "norms": (norms_a_layer * layers + 1) * norm,
        "head": 0 if config.tie_word_embeddings else table,
    }


def parameter_count(config: DecoderConfig) -> int:
    return sum(parameters_by_part(config).values())


def training_flops_per_token(config: DecoderConfig, context: int) -> int:
    """Operations of forward and backward for one token among `context`, counted as PaLM does
    (arXiv:2204.02311, appendix B): 6 for each weight that multiplies, and 12 L H D T for attention.

    The lookup of an embedding multiplies nothing; the head does, tied or not. Of experts those count that a token
    asks, and a sliding layer looks back over its window alone.
    """
    queries, keys = _attention_widths(config)
    hidden, matrices = config.hidden_size, 3 if config.gated else 2
    dense = matrices * hidden * config.intermediate_size
    asked = config.num_experts_per_tok * matrices * hidden * config.moe_intermediate_size
    sparse = hidden * config.num_experts + asked
    weights, looked_back = config.vocab_size * hidden, 0
    for layer in range(config.num_hidden_layers):
        weights += hidden * (2 * queries + 2 * keys) + (sparse if config.is_sparse(layer) else dense)
        looked_back += min(context, config.window(layer) or context)
    return 6 * weights + 12 * queries * looked_back


def _attention_widths(config: DecoderConfig) -> tuple[int, int]:
    """Channels of all queries, and of all keys."""
    return config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim


def _feed_forward(config: DecoderConfig, width: int) -> int:
    matrices = 3 if config.gated else 2
    biases = (matrices - 1) * width + config.hidden_size
    return matrices * config.hidden_size * width + biases * config.mlp_bias
