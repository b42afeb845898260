"""Parts of the decoder by themselves: experts, windows, caps, merged products."""

import pytest
import torch
import torch.nn.functional as F

from ownlm.model import Decoder, parameter_count, training_flops_per_token
from ownlm.model.attention import capped_attention
from ownlm.model.experts import Experts
from ownlm.model.mask import causal_mask, packed_mask
from ownlm.model.projection import Projection
from tiny_models import random_decoder, random_ids, tiny_config

MOE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24}


@pytest.mark.parametrize("renormalised", [True, False])
def test_each_token_asks_its_likeliest_experts_and_no_other(renormalised: bool) -> None:
    torch.manual_seed(0)
    experts = Experts(tiny_config(**MOE, norm_topk_prob=renormalised))
    x_BTE = torch.randn(2, 5, 32)
    out_BTE = experts(x_BTE)
    for x, out in zip(x_BTE.flatten(0, 1), out_BTE.flatten(0, 1), strict=True):
        probability = F.softmax(experts.gate.weight @ x, dim=0)
        first, second = probability.argsort(descending=True)[:2].tolist()
        share = probability[first] + probability[second] if renormalised else torch.tensor(1.0)
        expected = sum(probability[n] / share * experts.experts[n](x) for n in (first, second))
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)


def test_an_expert_that_no_token_asks_has_no_gradient() -> None:
    experts = Experts(tiny_config(**MOE))
    experts(torch.randn(1, 1, 32)).sum().backward()
    asked = [expert.up_proj.weight.grad is not None for expert in experts.experts]  # type: ignore[union-attr]
    assert sum(asked) == 2 and experts.gate.weight.grad is not None


def test_which_layers_are_sparse_and_what_they_cost() -> None:
    config = tiny_config(**MOE, num_hidden_layers=6, decoder_sparse_step=2, mlp_only_layers=(3,))
    assert [config.is_sparse(layer) for layer in range(6)] == [False, True, False, False, False, True]
    with torch.device("meta"):
        model = Decoder(config)
    assert parameter_count(config) == sum(parameter.numel() for parameter in model.parameters())
    dense = training_flops_per_token(tiny_config(num_hidden_layers=6), 16)
    # A layer's 3 * 32 * 48 weights give way to the router's 32 * 6 and two experts of 3 * 32 * 24.
    assert training_flops_per_token(config, 16) - dense == 6 * 2 * 32 * 6


def test_masks_are_what_the_picture_shows() -> None:
    def rows(mask: torch.Tensor) -> list[str]:
        return ["".join("1" if seen else "." for seen in row) for row in mask[0, 0].tolist()]

    cpu = torch.device("cpu")
    assert rows(causal_mask(4, None, cpu)) == ["1...", "11..", "111.", "1111"]
    assert rows(causal_mask(4, 3, cpu)) == ["1...", "11..", "111.", ".111"]
    assert rows(causal_mask(3, 1, cpu)) == ["1..", ".1.", "..1"]
    documents = torch.tensor([[0, 0, 0, 1, 1]])
    assert rows(packed_mask(documents)) == ["1....", "11...", "111..", "...1.", "...11"]
    assert rows(packed_mask(documents, 2)) == ["1....", "11...", ".11..", "...1.", "...11"]


def test_a_window_hides_what_lies_before_it() -> None:
    model = random_decoder(sliding_window=4, num_hidden_layers=1).eval()
    ids, other = random_ids(12), random_ids(12, seed=1)
    with torch.inference_mode():
        one, two = model(torch.tensor([ids])), model(torch.tensor([other[:6] + ids[6:]]))
    assert torch.equal(one[0, 9:], two[0, 9:]) and not torch.equal(one[0, 8], two[0, 8])


def test_capped_attention_is_attention_where_the_cap_is_far() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    mask = torch.rand(2, 1, 5, 7) > 0.3
    mask[..., 0] = True
    plain = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3, enable_gqa=True)
    far = capped_attention(q, k, v, mask, scale=0.3, cap=1e4)
    torch.testing.assert_close(far, plain, rtol=1e-4, atol=1e-5)
    near = capped_attention(100 * q, k, v, mask, scale=0.3, cap=0.5)
    scores = 0.5 * torch.tanh(100 * q[0, 3] @ k[0, 1].T * 0.3 / 0.5)
    expected = scores.masked_fill(~mask[0, 0], -torch.inf).softmax(-1) @ v[0, 1]
    torch.testing.assert_close(near[0, 3], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_merged_products_are_the_products(bias: bool) -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(8, width, bias=bias) for width in (4, 6, 2)]
    projection, x = Projection(*layers), torch.randn(3, 5, 8)
    merged = projection.parts(x)
    with torch.no_grad():
        apart = projection.parts(x)
    projection.pack()
    packed = projection.parts(x)
    for one, other, third, layer in zip(merged, apart, packed, layers, strict=True):
        assert one.requires_grad and not other.requires_grad and not third.requires_grad
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(one, third)
        torch.testing.assert_close(one, layer(x))
