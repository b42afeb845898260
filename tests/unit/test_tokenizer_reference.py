"""The readable BPE, and `tokenizers` held against it: the same merges, ties included, and the same ids."""

import argparse
import inspect
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.tokenizer import SPECIAL_TOKENS, Tokenizer, train_tokenizer
from ownlm.tokenizer.compression import SAMPLES
from ownlm.tokenizer.reference import ReferenceBPE, byte_characters, byte_order, split

REAL_TEXT = [inspect.getsource(argparse), inspect.getsource(textwrap), *SAMPLES.values()]
# Characters that this Python knows: the tables of `regex` may be newer than those of `tokenizers`.
ANY_TEXT = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cn", "Co"]))
    | st.sampled_from(["'LL", "ſ", " \r\n", "\u0301", "\x85", "\u3000 ", "12", "  x", "👩‍👧", "<|im_end|>", "क्ष"])
).map("".join)


def both(texts: list[str], vocab_size: int) -> tuple[ReferenceBPE, Tokenizer]:
    reference = ReferenceBPE()
    reference.train(texts, vocab_size - len(SPECIAL_TOKENS))
    return reference, train_tokenizer(texts, vocab_size=vocab_size)


def ordinary_tokens(tokenizer: Tokenizer) -> list[bytes]:
    return [tokenizer.token_bytes(id) for id in range(tokenizer.vocab_size - len(SPECIAL_TOKENS))]


@pytest.fixture(scope="module")
def trained() -> tuple[ReferenceBPE, Tokenizer]:
    return both(REAL_TEXT, 700)


def test_learns_the_most_frequent_pair_first() -> None:
    bpe = ReferenceBPE()
    bpe.train(["low lower lowest"], 256 + 3)
    assert bpe.tokens[256:] == [b"lo", b"low", b" low"]
    assert [bpe.tokens[id] for id in bpe.encode("lower low")] == [b"low", b"e", b"r", b" low"]


def test_a_pair_seen_once_is_not_merged() -> None:
    bpe = ReferenceBPE()
    bpe.train(["abc"], 300)
    assert bpe.merges == {}


def test_the_first_ids_are_the_bytes_in_the_order_of_their_visible_characters() -> None:
    characters = byte_characters()
    assert len(set(characters)) == 256 and not any(character.isspace() for character in characters)
    assert byte_order()[0] == ord("!") and sorted(byte_order()) == list(range(256))


def test_split_gives_single_digits_and_keeps_words_with_their_space() -> None:
    assert split("It's 42,\n  ok ") == ["It", "'s", " ", "4", "2", ",\n", " ", " ok", " "]


def test_same_vocabulary_as_tokenizers_on_real_text(trained: tuple[ReferenceBPE, Tokenizer]) -> None:
    reference, tokenizer = trained
    assert reference.tokens == ordinary_tokens(tokenizer)
    assert len(reference.tokens) == 700 - len(SPECIAL_TOKENS)


@pytest.mark.parametrize("text", REAL_TEXT)
def test_same_ids_as_tokenizers_on_real_text(trained: tuple[ReferenceBPE, Tokenizer], text: str) -> None:
    reference, tokenizer = trained
    ids = reference.encode(text)
    assert ids == tokenizer.encode(text)
    assert reference.decode(ids) == text


# Few letters and few repetitions: nearly every step of the training is a tie.
@settings(deadline=None, max_examples=50)
@given(st.lists(st.text("ab ", max_size=30), min_size=1, max_size=5).filter(any))
def test_ties_break_as_in_tokenizers(texts: list[str]) -> None:
    reference, tokenizer = both(texts, 320)
    assert reference.tokens == ordinary_tokens(tokenizer)
    assert all(reference.encode(text) == tokenizer.encode(text) for text in texts)


@settings(deadline=None, max_examples=50)
@given(ANY_TEXT)
def test_same_ids_as_tokenizers_on_any_text(trained: tuple[ReferenceBPE, Tokenizer], text: str) -> None:
    reference, tokenizer = trained
    ids = reference.encode(text)
    assert ids == tokenizer.encode(text)
    assert reference.decode(ids) == text == "".join(split(text))
