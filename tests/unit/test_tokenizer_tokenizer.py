"""The tokenizer of each kind: nothing is lost, the fast route agrees, and folders open again."""

import argparse
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.errors import DamagedError, OwnlmError
from ownlm.tokenizer import Tokenizer, train_tokenizer
from ownlm.tokenizer.compression import SAMPLES

KINDS = ("bpe", "word", "character")
REAL_TEXT = [inspect.getsource(argparse), *SAMPLES.values()]
ANY_TEXT = st.lists(
    st.text() | st.sampled_from(["'LL", "ſ", " \r\n", "\u0301", "\x85", "\u3000 ", "  x", "<0x41>", "<|im_end|>", "中"])
).map("".join)
TOKENIZERS = {kind: train_tokenizer(REAL_TEXT, kind=kind, vocab_size=600) for kind in KINDS}


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=50)
@given(ANY_TEXT)
def test_nothing_is_lost(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=50)
@given(st.lists(ANY_TEXT | st.text(st.characters(categories=["Cs", "L"])), max_size=4))
def test_the_fast_route_gives_the_same_ids(kind: str, texts: list[str]) -> None:
    tokenizer = TOKENIZERS[kind]
    assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == [tokenizer.encode(text) for text in texts]


def test_the_fast_route_agrees_on_the_standard_library(tokenizer: Tokenizer) -> None:
    folder = Path(inspect.getfile(argparse)).parent
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("[ab]*.py"))]
    assert len(texts) > 10
    for text, ids in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert ids.tolist() == tokenizer.encode(text)
        assert tokenizer.decode(ids.tolist()) == text


def test_lone_surrogates_are_read_as_the_replacement_character(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert tokenizer.decode(tokenizer.encode("\ud83d\ude00")) == "😀"
    assert tokenizer.encode_batch(["a\ud800b"])[0].tolist() == tokenizer.encode("a\ufffdb")


def test_a_very_long_run_of_spaces_is_no_trouble() -> None:
    tokenizer = TOKENIZERS["bpe"]
    text = "x" + " " * 1_200_000 + "\ny"
    assert tokenizer.decode(tokenizer.encode_batch([text])[0].tolist()) == text


def test_arrays_are_as_narrow_as_the_ids_allow(tokenizer: Tokenizer) -> None:
    [empty, ids] = tokenizer.encode_batch(["", "text"])
    assert ids.dtype == empty.dtype == np.uint16 and empty.shape == (0,)
    assert tokenizer.encode_batch([]) == []


def test_sizes_and_names(tokenizer: Tokenizer) -> None:
    assert tokenizer.padded_vocab_size % 64 == 0
    assert 0 <= tokenizer.padded_vocab_size - tokenizer.vocab_size < 64
    for id, name in [
        (tokenizer.end_of_text_id, "<|endoftext|>"),
        (tokenizer.im_start_id, "<|im_start|>"),
        (tokenizer.im_end_id, "<|im_end|>"),
        (tokenizer.pad_id, "<|pad|>"),
    ]:
        assert tokenizer.special[name] == id and tokenizer.token_bytes(id) == name.encode()


def test_special_tokens_are_shown_by_name_or_skipped(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("Hi"), tokenizer.im_end_id]
    assert tokenizer.decode(ids) == "Hi<|im_end|>"
    assert tokenizer.decode(ids, skip_special=True) == "Hi"
    assert tokenizer.decode_bytes(ids, skip_special=True) == b"Hi"


def test_ids_outside_the_vocabulary() -> None:
    tokenizer = train_tokenizer(["text"], vocab_size=288)
    assert tokenizer.decode([tokenizer.padded_vocab_size - 1]) == ""
    for id in (-1, tokenizer.padded_vocab_size):
        with pytest.raises(OwnlmError, match=f"no token {id}: .* 0 to 287"):
            tokenizer.decode([id])


def test_a_saved_tokenizer_opens_again(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path, chat=True, model_max_length=512)
    loaded = Tokenizer.load(tmp_path)
    assert (loaded.kind, loaded.vocab_size, loaded.special) == (
        tokenizer.kind,
        tokenizer.vocab_size,
        tokenizer.special,
    )
    assert [loaded.encode(text) for text in REAL_TEXT] == [tokenizer.encode(text) for text in REAL_TEXT]
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again/tokenizer.json").read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_what_the_configuration_says(tmp_path: Path) -> None:
    tokenizer = TOKENIZERS["bpe"]
    tokenizer.save(tmp_path / "base")
    tokenizer.save(tmp_path / "chat", chat=True, model_max_length=256)
    base, chat = (json.loads((tmp_path / name / "tokenizer_config.json").read_text()) for name in ("base", "chat"))
    assert base["eos_token"] == "<|endoftext|>" and chat["eos_token"] == "<|im_end|>"
    assert base["tokenizer_class"] == chat["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert base["clean_up_tokenization_spaces"] is False and base["pad_token"] == "<|pad|>"
    assert chat["model_max_length"] == 256
    assert (tmp_path / "chat/chat_template.jinja").exists()
    assert not (tmp_path / "base/chat_template.jinja").exists()


def test_folders_that_do_not_open(tmp_path: Path) -> None:
    with pytest.raises(OwnlmError, match=r"holds no tokenizer\.json"):
        Tokenizer.load(tmp_path / "nowhere")
    TOKENIZERS["bpe"].save(tmp_path)
    path = tmp_path / "tokenizer.json"
    good = path.read_text(encoding="utf-8")
    for bad in ("", "{}", "[]", good[:-100], good.replace('"BPE"', '"none"')):
        path.write_text(bad, encoding="utf-8")
        with pytest.raises(OwnlmError):
            Tokenizer.load(tmp_path)
    description = json.loads(good)
    description["model"]["merges"] = [["no", "such"]]
    path.write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(DamagedError, match="is damaged"):
        Tokenizer.load(tmp_path)
    description = json.loads(good)
    description["added_tokens"] = []
    path.write_text(json.dumps(description), encoding="utf-8")
    assert not Tokenizer.load(tmp_path).own  # without our special tokens it is like any other model's


@pytest.mark.parametrize("name", TOKENIZERS)
def test_texts_are_encoded_whole_whatever_a_file_says_of_cutting_and_filling_up(tmp_path: Path, name: str) -> None:
    TOKENIZERS[name].save(tmp_path)
    description = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    description["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    description["padding"] = {"strategy": {"Fixed": 64}, "direction": "Left", "pad_id": 0, "pad_token": "x"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    text = "the cat sat on the mat, and saw seven small dogs"
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode(text) == tokenizer.encode_batch([text])[0].tolist() == TOKENIZERS[name].encode(text)
    assert tokenizer.whole.truncation is None and tokenizer.whole.padding is None
