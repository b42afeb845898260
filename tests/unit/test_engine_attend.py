"""Ways to attention over the paged cache: the card's call, held to the processor's."""

import subprocess
import sys
from typing import Any

import pytest
import torch

from ownlm.engine import attend_varlen
from ownlm.engine.attend import Span, StepAttention, attention_of
from ownlm.engine.attend_varlen import VarlenAttention
from ownlm.engine.blocks import BLOCK
from ownlm.engine.paged_cache import CACHE_DTYPES, PagedCache
from ownlm.model.mask import within
from tiny_models import tiny_config

CONFIG = tiny_config()
HEADS, KEYS, DIM = CONFIG.num_attention_heads, CONFIG.num_key_value_heads, CONFIG.head_dim
SPANS = [
    Span(count=1, length=40, blocks=[5, 6, 7]),
    Span(count=21, length=21, blocks=[9, 2]),
    Span(count=3, length=20, blocks=[0, 11]),
    Span(count=1, length=1, blocks=[4]),
]
COUNT = sum(span.count for span in SPANS)


def varlen_by_hand(q: Any, k: Any, v: Any, ends_q: Any, ends_k: Any, *_: int, **settings: Any) -> torch.Tensor:
    """What the documentation of torch.nn.attention.varlen says, text by text in float64."""
    left, right = settings["window_size"]
    assert right == 0 and settings["enable_gqa"] and ends_q.dtype == torch.int32
    mixed = []
    for text in range(len(ends_q) - 1):
        q_THD = q[ends_q[text] : ends_q[text + 1]].double()
        k_SHD, v_SHD = (
            part[ends_k[text] : ends_k[text + 1]].double().repeat_interleave(HEADS // KEYS, 1) for part in (k, v)
        )
        scores = torch.einsum("thd,shd->hts", q_THD, k_SHD) * settings["scale"]
        seen = torch.ones(scores.shape[1:], dtype=torch.bool).tril(len(k_SHD) - len(q_THD))
        seen = within(seen, None if left < 0 else left + 1)
        mixed.append(torch.einsum("hts,shd->thd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v_SHD))
    return torch.cat(mixed).to(q.dtype)


def filled_cache(dtype: torch.dtype) -> PagedCache:
    torch.manual_seed(0)
    cache = PagedCache(CONFIG, blocks=12, device=torch.device("cpu"), dtype=dtype)
    slots = torch.arange(12 * BLOCK)
    cache.write(1, slots, torch.randn(len(slots), KEYS, DIM), torch.randn(len(slots), KEYS, DIM))
    return cache


@pytest.mark.parametrize("window", [None, 5, 30])
@pytest.mark.parametrize("dtype", CACHE_DTYPES)
def test_the_cards_call_says_what_the_processors_way_says(
    dtype: str, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attend_varlen, "varlen_attn", varlen_by_hand)
    torch.manual_seed(1)
    q, k, v = torch.randn(HEADS, COUNT, DIM), torch.randn(COUNT, KEYS, DIM), torch.randn(COUNT, KEYS, DIM)
    settings: dict[str, Any] = {"window": window, "scale": 0.3, "cap": None}
    here, there = (
        way(filled_cache(CACHE_DTYPES[dtype]), SPANS).attend(1, q, k, v, **settings)
        for way in (StepAttention, VarlenAttention)
    )
    torch.testing.assert_close(there, here, rtol=1e-5, atol=1e-5)


def test_the_processor_and_whole_precision_keep_their_way() -> None:
    cache = filled_cache(torch.float32)
    assert isinstance(attention_of(cache, SPANS, torch.bfloat16, None), StepAttention)


def test_an_int8_cache_keeps_a_token_to_a_part_in_two_hundred() -> None:
    torch.manual_seed(2)
    cache = PagedCache(CONFIG, blocks=2, device=torch.device("cpu"), dtype=torch.int8)
    k, v = torch.randn(20, KEYS, DIM), torch.zeros(20, KEYS, DIM)
    cache.write(0, torch.arange(20), k, v)
    read_k, read_v = cache.read(0, slice(0, 2), torch.float32)
    assert (read_k[:20] - k).abs().max() <= k.abs().max() / 250
    assert torch.equal(read_v[:20], v)


def test_what_only_a_card_needs_is_not_imported() -> None:
    """torch's varlen_attn brings its compiler with it, which takes longer than to open a model."""
    code = "import sys, ownlm.opened; assert 'torch.nn.attention.varlen' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
