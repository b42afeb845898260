"""Compression: bytes per token, and the pieces of a text."""

import pytest

from ownlm.tokenizer import compression, cut, train_tokenizer
from ownlm.tokenizer.compression import SAMPLES


def test_a_tokenizer_is_best_at_what_it_was_trained_on() -> None:
    table = compression(train_tokenizer([SAMPLES["prose"]] * 2, vocab_size=400))
    assert set(table) == set(SAMPLES)
    assert table["prose"].bytes_per_token > 2
    assert max(table, key=lambda kind: table[kind].bytes_per_token) == "prose"
    assert all(row.bytes_per_token >= 1 for row in table.values())


def test_the_callers_own_texts_are_summed() -> None:
    tokenizer = train_tokenizer(["x"], vocab_size=288)
    row = compression(tokenizer, {"mine": iter(["ab", "é"]), "none": []})
    assert (row["mine"].bytes, row["mine"].tokens, row["mine"].bytes_per_token) == (4, 4, 1.0)
    assert row["none"].bytes_per_token == 0.0


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_pieces_can_be_read(kind: str) -> None:
    tokenizer = train_tokenizer(["the cat"] * 2, kind=kind, vocab_size=320)
    pieces = cut(tokenizer, "the cat é")
    assert [piece.text for piece in pieces] == ["the", " cat", " ", "\\xc3", "\\xa9"]
    assert [piece.id for piece in pieces] == tokenizer.encode("the cat é")
