"""Rows of packed documents and conversations: nothing lost, nothing twice, in an order of (seed, row) alone."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.errors import DamagedError, OwnlmError
from ownlm.train.batch import IGNORE
from ownlm.train.conversations import pack, read_conversations, render_examples
from ownlm.train.pack import DocumentRows, restarted_positions
from tiny_models import random_documents

LENGTHS = [9, 20, 5, 31, 14, 1, 2]


def test_an_epoch_reads_every_token_once_but_the_short_end() -> None:
    documents = random_documents(LENGTHS, vocab=1000)
    rows = DocumentRows(documents, context=8, seed=0)
    count = rows.rows_per_epoch
    assert count == (sum(LENGTHS) - 1) // 8
    read = Counter(rows.batch(0, count).tokens_BT.flatten().tolist())
    every = Counter(documents.shards[0].tolist())
    assert sum((every - read).values()) == sum(LENGTHS) - count * 8
    assert not read - every


@pytest.mark.parametrize("split", [1, 2, 3, 7])
def test_rows_do_not_depend_on_how_they_are_fetched(split: int) -> None:
    rows = DocumentRows(random_documents(LENGTHS), context=8, seed=3)
    whole = rows.batch(0, 21)
    parts = [DocumentRows(random_documents(LENGTHS), context=8, seed=3).batch(n, split) for n in range(0, 21, split)]
    backwards = [rows.batch(n, 1) for n in reversed(range(21))][::-1]
    for name in vars(whole):
        expected = getattr(whole, name)
        assert torch.equal(torch.cat([getattr(part, name) for part in parts])[:21], expected)
        assert torch.equal(torch.cat([getattr(part, name) for part in backwards]), expected)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    rows = DocumentRows(random_documents(LENGTHS), context=8, seed=0)
    count = rows.rows_per_epoch
    first, second = rows.batch(0, count).tokens_BT, rows.batch(count, count).tokens_BT
    other = DocumentRows(random_documents(LENGTHS), context=8, seed=1).batch(0, count).tokens_BT
    assert not torch.equal(first, second) and not torch.equal(first, other)


def test_a_text_shorter_than_a_row_leaves_padding() -> None:
    batch = DocumentRows(random_documents([3, 2]), context=8, seed=0).batch(0, 1)
    assert (batch.documents_BT[0] >= 0).tolist() == [True] * 5 + [False] * 3
    assert int((batch.targets_BT != IGNORE).sum()) == 3


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-1, 3), min_size=1, max_size=12))
def test_positions_against_a_loop(numbers: list[int]) -> None:
    expected: list[int] = []
    for place, number in enumerate(numbers):
        expected.append(expected[-1] + 1 if place and numbers[place - 1] == number else 0)
    assert restarted_positions(np.array([numbers])).tolist() == [expected]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 20), max_size=60), st.randoms())
def test_packing_takes_each_once_and_overfills_nothing(lengths: list[int], random: object) -> None:
    groups = pack(lengths, range(len(lengths)), 20)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    assert all(0 < sum(lengths[index] for index in group) <= 20 for group in groups)


def test_rows_are_well_filled() -> None:
    lengths = np.random.default_rng(0).integers(10, 80, 500).tolist()
    groups = pack(lengths, range(500), 257)
    assert sum(lengths) / (257 * len(groups)) > 0.93


@pytest.mark.parametrize("line", ["{", "[]", '{"prompt": 1}', "3"])
def test_a_line_that_is_no_conversation_is_named(tmp_path: object, line: str) -> None:
    path = tmp_path / "train.jsonl"  # type: ignore[operator]
    path.write_text('{"messages": []}\n' + line + "\n")
    with pytest.raises(DamagedError, match=r"train\.jsonl:2: "):
        list(read_conversations(path))


def test_conversations_without_an_answer_are_refused() -> None:
    from ownlm.tokenizer import ChatTemplate
    from tiny_models import tiny_tokenizer

    with pytest.raises(OwnlmError, match="no conversation has an assistant's turn"):
        render_examples([[{"role": "user", "content": "Hi"}]], ChatTemplate(tiny_tokenizer()), context=32)
