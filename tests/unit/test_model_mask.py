"""Packed documents, looked at one by one or through a mask: the same."""

import pytest
import torch

from ownlm.model.attention import plain_attention
from ownlm.model.mask import Spans, packed_mask, spans_of


def documents(*rows: list[int]) -> torch.Tensor:
    """Rows of document numbers, of the documents' lengths."""
    return torch.tensor([[number for number, length in enumerate(row) for _ in range(length)] for row in rows])


def test_one_by_one_is_as_through_the_mask() -> None:
    torch.manual_seed(0)
    documents_BT = documents([40, 50, 38], [64, 64])
    spans = spans_of(documents_BT)
    assert spans is not None and spans.places[:3] == ((0, 0, 40), (0, 40, 90), (0, 90, 128))
    found = []
    for seen in (spans, packed_mask(documents_BT)):
        torch.manual_seed(1)
        q, k, v = (torch.randn(2, heads, 128, 8, dtype=torch.float64).requires_grad_() for heads in (6, 3, 3))
        mixed = plain_attention(q, k, v, seen, scale=0.3)
        (mixed * torch.linspace(0, 1, mixed.numel(), dtype=torch.float64).view_as(mixed)).sum().backward()
        found.append((mixed, q.grad, k.grad, v.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("documents_BT", "window", "one_by_one"),
    [
        (documents([64, 64]), None, True),
        (documents([64, 64]), 64, True),
        (documents([64, 64]), 63, False),  # the window cuts them
        (documents([120, 8]), None, False),  # nothing much is saved
        (documents([4] * 32), None, False),  # too many calls
        (documents([128]), None, False),
        (torch.tensor([[0] * 40 + [1] * 48 + [0] * 40]), None, False),  # one lies in two pieces
    ],
)
def test_a_mask_where_it_is_better(documents_BT: torch.Tensor, window: int | None, one_by_one: bool) -> None:
    assert isinstance(spans_of(documents_BT, window), Spans) is one_by_one
