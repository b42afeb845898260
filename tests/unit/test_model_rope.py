"""Frequencies and angles against the formulas of their papers, written out channel by channel."""

import math
from typing import Any

import pytest
import torch

from ownlm.model.rope import Rope, apply_rope, magnitude
from ownlm.model.rope_scaling import RopeScaling
from tiny_models import tiny_config

THETA, DIM = 1000.0, 16
PLAIN = [THETA ** (-2 * pair / DIM) for pair in range(DIM // 2)]


def rope(**scaling: Any) -> Rope:
    given = RopeScaling(**scaling) if scaling else None
    return Rope(tiny_config(head_dim=DIM, rope_theta=THETA, max_position_embeddings=32, rope_scaling=given))


def close(ours: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(ours, torch.tensor(expected), rtol=1e-6, atol=0)


def test_plain_and_linear() -> None:
    close(rope().frequencies, PLAIN)
    close(rope(rope_type="linear", factor=4.0).frequencies, [f / 4 for f in PLAIN])


def test_llama3_keeps_fast_channels_and_slows_slow_ones() -> None:
    low, high, factor, original = 1.0, 4.0, 8.0, 64
    expected = []
    for frequency in PLAIN:
        wavelength = 2 * math.pi / frequency
        if wavelength < original / high:
            expected.append(frequency)
        elif wavelength > original / low:
            expected.append(frequency / factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            expected.append((1 - smooth) * frequency / factor + smooth * frequency)
    table = rope(
        rope_type="llama3",
        factor=factor,
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_position_embeddings=original,
    )
    close(table.frequencies, expected)
    assert expected[0] == PLAIN[0] and expected[-1] == PLAIN[-1] / factor
    assert any(PLAIN[i] / factor < expected[i] < PLAIN[i] for i in range(len(PLAIN)))


@pytest.mark.parametrize("truncate", [True, False])
def test_yarn_ramps_between_two_numbers_of_turns(truncate: bool) -> None:
    factor, original, fast, slow = 4.0, 64, 8.0, 1.0

    def pair(turns: float) -> float:
        return DIM * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(THETA))

    low, high = pair(fast), pair(slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low = max(low, 0)
    ramp = [min(1, max(0, (place - low) / (high - low))) for place in range(DIM // 2)]
    expected = [f / factor * r + f * (1 - r) for f, r in zip(PLAIN, ramp, strict=True)]
    table = rope(
        rope_type="yarn",
        factor=factor,
        original_max_position_embeddings=original,
        beta_fast=fast,
        beta_slow=slow,
        truncate=truncate,
    )
    close(table.frequencies, expected)
    assert table.magnitude == pytest.approx(0.1 * math.log(4) + 1)
    cos, _ = table(torch.tensor([[0]]))
    assert float(cos[0, 0, 0, 0]) == pytest.approx(table.magnitude)


def test_magnitudes() -> None:
    base: dict[str, Any] = {"factor": 8.0, "original_max_position_embeddings": 64}
    lists: dict[str, Any] = {"short_factor": (1.0,), "long_factor": (1.0,)}
    assert magnitude(None) == magnitude(RopeScaling(rope_type="linear", factor=8.0)) == 1
    both = RopeScaling(rope_type="yarn", **base, mscale=0.7, mscale_all_dim=1.3)
    growth = math.log(8)
    assert magnitude(both) == pytest.approx((0.07 * growth + 1) / (0.13 * growth + 1))
    assert magnitude(RopeScaling(rope_type="yarn", **base, attention_factor=1.5)) == 1.5
    assert magnitude(RopeScaling(rope_type="longrope", **base, **lists)) == pytest.approx(math.sqrt(1.5))
    assert magnitude(RopeScaling(rope_type="longrope", **{**base, "factor": 0.5}, **lists)) == 1


def test_dynamic_changes_nothing_within_the_context_and_each_row_by_its_own_length() -> None:
    table = rope(rope_type="dynamic", factor=2.0)
    cos, _ = table(torch.stack((torch.arange(48), torch.arange(48).clamp(max=30))))
    base = THETA * (2.0 * 48 / 32 - 1) ** (DIM / (DIM - 2))
    grown = torch.tensor([base ** (-2 * pair / DIM) for pair in range(DIM // 2)])
    torch.testing.assert_close(cos[0, 0, 47, :8], (47 * grown).cos(), rtol=0, atol=1e-5)
    torch.testing.assert_close(cos[1, 0, 20, :8], (20 * torch.tensor(PLAIN)).cos(), rtol=0, atol=1e-5)


def test_longrope_takes_the_long_factors_past_the_original_context() -> None:
    short, long = tuple(1 + 0.1 * i for i in range(8)), tuple(2 + 0.5 * i for i in range(8))
    table = rope(
        rope_type="longrope",
        factor=1.0,
        original_max_position_embeddings=32,
        short_factor=short,
        long_factor=long,
    )
    for length, factors in ((32, short), (33, long)):
        cos, _ = table(torch.arange(length).unsqueeze(0))
        expected = torch.tensor([5 * f / by for f, by in zip(PLAIN, factors, strict=True)]).cos()
        torch.testing.assert_close(cos[0, 0, 5, :8], expected, rtol=0, atol=1e-6)


def test_part_of_a_head_turns_and_the_rest_passes() -> None:
    x = torch.randn(1, 2, 5, 16)
    cos, sin = Rope(tiny_config(partial_rotary_factor=0.25))(torch.arange(5).unsqueeze(0))
    turned = apply_rope(x, cos, sin)
    assert torch.equal(turned[..., 4:], x[..., 4:]) and not torch.equal(turned[..., 1:, :4], x[..., 1:, :4])
    torch.testing.assert_close(turned[..., :4], apply_rope(x[..., :4], cos, sin))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
