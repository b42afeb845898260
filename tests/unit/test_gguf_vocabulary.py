"""Vocabularies inside GGUF files: rebuilt, refused, and written."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foreign_tokenizers
from foreign_tokenizers import TEXTS
from ownlm.errors import DamagedError, OwnlmError
from ownlm.tokenizer import Tokenizer, gguf_metadata, tokenizer_from_gguf, train_tokenizer
from ownlm.tokenizer.settings import Settings

NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
FOREIGN = {
    name: Tokenizer(getattr(foreign_tokenizers, name)().to_str(), Settings(names=NAMES))
    for name in ("byte_level", "sentencepiece")
}
OWN = {kind: train_tokenizer(TEXTS, kind=kind, vocab_size=700) for kind in ("bpe", "character")}
ALL = {**FOREIGN, **OWN}
REBUILT = {
    name: tokenizer_from_gguf(gguf_metadata(tokenizer, padded_vocab_size=tokenizer.padded_vocab_size))
    for name, tokenizer in ALL.items()
}
# U+2581 is what GGUF writes for a space, where it holds our characters.
TEXT = st.text(st.characters(exclude_characters="▁", exclude_categories=["Cs"])) | st.sampled_from(
    ["it's  1234", "naïve\n\n 中文 👩‍👩‍👧", "\x00", "<|end|>", "  def f(x):\n\n\treturn"]
)


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=60)
@given(TEXT)
def test_written_and_read_again_the_ids_are_the_same(name: str, text: str) -> None:
    assert REBUILT[name].encode(text) == ALL[name].encode(text)
    assert REBUILT[name].decode(REBUILT[name].encode(text)) == ALL[name].decode(ALL[name].encode(text))


@pytest.mark.parametrize("name", ALL)
def test_so_are_the_special_tokens(name: str) -> None:
    there, here = REBUILT[name], ALL[name]
    assert there.special.items() >= here.special.items()
    assert there.prefix_ids == here.prefix_ids and there.pad_id == here.pad_id
    assert there.vocab_size == here.padded_vocab_size
    assert set(here.end_ids) <= set(there.end_ids)
    for text in TEXTS:
        assert there.encode(text) == here.encode(text)
    marked = "<|im_end|>" if here.own else "a<|end|>b<think>"
    assert there.encode(marked, parse_special=True) == here.encode(marked, parse_special=True)


def test_the_fields_of_ours() -> None:
    metadata = gguf_metadata(OWN["bpe"], padded_vocab_size=704, chat_template="{{ x }}")
    special = OWN["bpe"].special
    assert metadata["tokenizer.ggml.model"] == "gpt2" and metadata["tokenizer.ggml.pre"] == "qwen2"
    assert len(metadata["tokenizer.ggml.tokens"]) == len(metadata["tokenizer.ggml.token_type"]) == 704
    assert metadata["tokenizer.ggml.eos_token_id"] == special["<|im_end|>"]
    assert metadata["tokenizer.ggml.add_bos_token"] is False
    assert metadata["tokenizer.chat_template"] == "{{ x }}"
    assert tokenizer_from_gguf(metadata).settings.templates == {"default": "{{ x }}"}


def test_what_gguf_cannot_hold() -> None:
    words = train_tokenizer(TEXTS, kind="word", vocab_size=400)
    with pytest.raises(OwnlmError, match="cannot hold a tokenizer of whole words"):
        gguf_metadata(words, padded_vocab_size=448)
    marks = train_tokenizer(["a▁b"], kind="character", vocab_size=300)
    with pytest.raises(OwnlmError, match="export the folder"):
        gguf_metadata(marks, padded_vocab_size=320)
    unigram = Tokenizer(foreign_tokenizers.unigram().to_str())
    with pytest.raises(OwnlmError, match="Unigram"):
        gguf_metadata(unigram, padded_vocab_size=640)
    with pytest.raises(OwnlmError, match="do not belong together"):
        gguf_metadata(OWN["bpe"], padded_vocab_size=64)


BASE: dict[str, Any] = gguf_metadata(OWN["bpe"], padded_vocab_size=704)
SPM: dict[str, Any] = gguf_metadata(FOREIGN["sentencepiece"], padded_vocab_size=704)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tokenizer.ggml.pre": "secret"}, r"pre-tokenizer 'secret' is unknown.*known are .*llama-bpe"),
        ({"tokenizer.ggml.model": "bert"}, "of the kind 'bert'"),
        ({"tokenizer.ggml.model": None}, "holds no tokenizer"),
        ({"tokenizer.ggml.tokens": None}, "has no tokens"),
        ({"tokenizer.ggml.tokens": ["a", "a"]}, "lists a token twice"),
        ({"tokenizer.ggml.token_type": [1]}, "704 tokens, but 1 in tokenizer.ggml.token_type"),
        ({"tokenizer.ggml.merges": None}, "has no merges"),
        ({"tokenizer.ggml.model": "llama"}, "has no scores"),
    ],
)
def test_metadata_that_is_refused(change: dict[str, Any], says: str) -> None:
    metadata = {key: value for key, value in {**BASE, **change}.items() if value is not None}
    with pytest.raises(OwnlmError, match=says):
        tokenizer_from_gguf(metadata)


def test_odd_metadata_is_borne() -> None:
    merges = ["no such", "", " ", *BASE["tokenizer.ggml.merges"]]
    odd = {**BASE, "tokenizer.ggml.merges": merges, "tokenizer.ggml.bos_token_id": 10**6}
    assert tokenizer_from_gguf(odd).encode("text") == OWN["bpe"].encode("text")
    with pytest.raises(DamagedError):
        tokenizer_from_gguf({**SPM, "tokenizer.ggml.scores": [0.0]})


def test_what_ends_an_answer_by_name() -> None:
    tokens = ["a", "<|im_end|>", "<|eot_id|>", "<eos>", "<|end|>", "<|return|>", "<|call|>", "<|channel|>"]
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-4o",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1, 1, 3, 3, 3, 3, 3, 3],
        "tokenizer.ggml.merges": [],
        "tokenizer.ggml.eos_token_id": 3,
    }
    tokenizer = tokenizer_from_gguf(metadata)
    assert tokenizer.end_ids == (3, 1, 2, 5, 6)
    assert "<|im_end|>" in tokenizer.special and "<|channel|>" not in tokenizer.special
    assert tokenizer.encode("a<|channel|>") == [0, 7]
