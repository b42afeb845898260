"""Counts from the config alone, against the real tensors, a formula by hand and torch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ownlm.errors import OwnlmError
from ownlm.model import Decoder, DecoderConfig, ModelShape, affordable_depth, parameter_count, parameters_by_part
from ownlm.model import training_flops_per_token as flops_per_token
from tiny_models import random_decoder, tiny_config


@pytest.mark.parametrize("tied", [True, False, None])
@pytest.mark.parametrize("depth", [1, 2, 4, 6, 8, 12])
def test_parameters_are_those_of_the_real_tensors(depth: int, tied: bool | None) -> None:
    config = ModelShape(depth=depth, tie_word_embeddings=tied).config(vocab_size=4096, context=256)
    with torch.device("meta"):
        model = Decoder(config)
    assert parameter_count(config) == sum(parameter.numel() for parameter in model.parameters())
    parts = parameters_by_part(config)
    assert parts["embedding"] == model.model.embed_tokens.weight.numel()
    assert (parts["head"] == 0) is config.tie_word_embeddings
    attention = sum(p.numel() for n, p in model.named_parameters() if "self_attn" in n)
    assert parts["attention"] == attention


@pytest.mark.parametrize("depth", [4, 16, 17, 24])
def test_shapes_follow_from_depth(depth: int) -> None:
    config = ModelShape(depth=depth).config(vocab_size=4096, context=256)
    assert config.hidden_size == -(-32 * depth // 64) * 64
    assert config.num_attention_heads * 64 == config.hidden_size and config.head_dim == 64
    heads = config.num_attention_heads
    assert config.num_key_value_heads == (heads // 2 if heads >= 8 and heads % 2 == 0 else heads)
    assert config.tie_word_embeddings is (depth <= 16)


def test_flops_by_hand() -> None:
    """E=32, H*D=64, K*D=32, I=48, V=448, L=2, T=16."""
    block = 32 * 64 + 2 * 32 * 32 + 64 * 32 + 3 * 32 * 48
    assert flops_per_token(tiny_config(), 16) == 6 * (2 * block + 448 * 32) + 12 * 2 * 64 * 16


@pytest.mark.parametrize("tied", [True, False])
def test_flops_against_torchs_counter(tied: bool) -> None:
    """The counter sees products alone: those of the weights are 6 a weight, forward and backward."""
    model = random_decoder(tie_word_embeddings=tied)
    batch, context = 3, 16
    ids = torch.zeros(batch, context, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(ids).sum().backward()
    kinds = counter.get_flop_counts()["Global"]
    products = sum(count for kind, count in kinds.items() if str(kind) in ("aten.mm", "aten.addmm", "aten.bmm"))
    weights = flops_per_token(model.config, context) - 12 * 2 * 64 * context
    assert products == pytest.approx(batch * context * weights, rel=0.001)


def test_more_compute_never_means_a_smaller_model() -> None:
    depths = [affordable_depth(flops=10.0**power, vocab_size=4096, context=256) for power in range(10, 20)]
    assert depths == sorted(depths) and depths[0] == 2 and depths[-1] == 32


@pytest.mark.parametrize(
    "wrong",
    [{"head_dim": 7}, {"num_attention_heads": 3}, {"num_key_value_heads": 0}, {"vocab_size": 0}, {"hidden_size": -1}],
)
def test_impossible_shapes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(OwnlmError, match=next(iter(wrong))):
        tiny_config(**wrong)
    assert isinstance(tiny_config(), DecoderConfig)
