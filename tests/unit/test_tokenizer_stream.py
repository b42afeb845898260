"""Streaming: whole characters only, and the whole text in the end."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.tokenizer import StreamDecoder, train_tokenizer

TOKENIZERS = {kind: train_tokenizer(["naïve 中文 text"], kind=kind, vocab_size=295) for kind in ("bpe", "character")}


def bytes_decoder() -> StreamDecoder:
    return StreamDecoder(lambda id: bytes([id]))


def test_a_character_comes_when_its_last_byte_does() -> None:
    decoder = bytes_decoder()
    assert [decoder.push(byte) for byte in "aé😀".encode()] == ["a", "", "é", "", "", "", "😀"]
    assert decoder.finish() == ""


def test_a_half_character_at_the_end_is_replaced_once() -> None:
    decoder = bytes_decoder()
    assert [decoder.push(byte) for byte in "😀".encode()[:3]] == ["", "", ""]
    assert decoder.finish() == "\ufffd"
    assert decoder.finish() == "" and decoder.push(ord("a")) == "a"


def test_bytes_that_cannot_be_completed_do_not_wait() -> None:
    decoder = bytes_decoder()
    assert [decoder.push(byte) for byte in b"\xe4A\xff"] == ["", "\ufffdA", "\ufffd"]


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("skip_special", [False, True])
@settings(deadline=None, max_examples=50)
@given(st.data())
def test_pieces_joined_are_the_decoded_text(kind: str, skip_special: bool, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    decoder = tokenizer.stream(skip_special=skip_special)
    pieces = [decoder.push(id) for id in ids]
    assert "".join(pieces) + decoder.finish() == tokenizer.decode(ids, skip_special=skip_special)


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_good_text_never_shows_a_replacement(text: str) -> None:
    tokenizer = TOKENIZERS["bpe"]
    decoder = tokenizer.stream()
    shown = ""
    for id in tokenizer.encode(text):
        shown += decoder.push(id)
        assert text.startswith(shown)
    assert shown == text and decoder.finish() == ""
