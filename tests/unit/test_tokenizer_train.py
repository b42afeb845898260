"""Training: the three kinds, their sizes, and what is refused."""

import pytest

from ownlm.errors import OwnlmError
from ownlm.tokenizer import SPECIAL_TOKENS, train_tokenizer
from ownlm.tokenizer.compression import SAMPLES

TEXTS = [*SAMPLES.values()] * 2


def test_thirty_two_special_tokens_stand_last_in_their_order() -> None:
    for kind in ("bpe", "word", "character"):
        tokenizer = train_tokenizer(TEXTS, kind=kind, vocab_size=370)
        assert tokenizer.vocab_size == 370
        assert tokenizer.special == {name: 338 + n for n, name in enumerate(SPECIAL_TOKENS)}
    assert len(SPECIAL_TOKENS) == len(set(SPECIAL_TOKENS)) == 32


def test_training_is_the_same_every_time(tmp_path) -> None:
    for kind in ("bpe", "word", "character"):
        for name in ("one", "two"):
            train_tokenizer(iter(TEXTS), kind=kind, vocab_size=380).save(tmp_path / kind / name)
        one, two = ((tmp_path / kind / name / "tokenizer.json").read_bytes() for name in ("one", "two"))
        assert one == two


def test_a_poor_text_gives_a_smaller_vocabulary() -> None:
    for kind in ("bpe", "word", "character"):
        tokenizer = train_tokenizer(["ab ab"], kind=kind, vocab_size=5000)
        assert 288 <= tokenizer.vocab_size <= 290
        assert tokenizer.decode(tokenizer.encode("ab ba é")) == "ab ba é"


def test_word_has_whole_words_and_spells_the_rest() -> None:
    tokenizer = train_tokenizer(["the cat saw the cat"] * 2, kind="word", vocab_size=300)
    pieces = [tokenizer.token_bytes(id) for id in tokenizer.encode("the cat sat")]
    assert pieces == [b"the", b" cat", b" ", b"s", b"a", b"t"]


def test_word_prefers_frequent_words() -> None:
    tokenizer = train_tokenizer(["often often often seldom seldom"], kind="word", vocab_size=288 + 1)
    assert tokenizer.token_bytes(256) == b" often"


def test_character_has_whole_characters_and_spells_the_rest() -> None:
    tokenizer = train_tokenizer(["né né 中"], kind="character", vocab_size=289)
    pieces = [tokenizer.token_bytes(id) for id in tokenizer.encode("né中")]
    assert pieces == [b"n", "é".encode(), *(bytes([byte]) for byte in "中".encode())]


def test_special_names_in_the_text_do_not_enter_the_vocabulary() -> None:
    for kind in ("bpe", "word", "character"):
        tokenizer = train_tokenizer(["<|im_end|> <think> <think>"] * 50, kind=kind, vocab_size=600)
        assert not set(tokenizer.encode("<|im_end|><think>")) & set(tokenizer.special.values())


def test_lone_surrogates_do_not_stop_the_training() -> None:
    for kind in ("bpe", "word", "character"):
        assert train_tokenizer(["bad \ud800 text"], kind=kind, vocab_size=300).vocab_size >= 288


def test_refusals_say_what_to_do() -> None:
    with pytest.raises(OwnlmError, match="one of: bpe, word, character"):
        train_tokenizer(TEXTS, kind="wordpiece", vocab_size=400)
    with pytest.raises(OwnlmError, match="288"):
        train_tokenizer(TEXTS, vocab_size=287)
    with pytest.raises(OwnlmError, match="no text"):
        train_tokenizer(["", ""], vocab_size=400)
