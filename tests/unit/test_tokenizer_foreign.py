"""Tokenizers of other models: the ids that `tokenizers` gives, and what a text can never become."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, models
from tokenizers import Tokenizer as Pipeline

import foreign_tokenizers
from foreign_tokenizers import CONFIG, SPECIAL, TEXTS, write_folder
from ownlm.errors import DamagedError, OwnlmError
from ownlm.tokenizer import Tokenizer, cut_to_rows, gguf_metadata, tokenizer_from_gguf
from ownlm.tokenizer.settings import Settings

PIPELINES = {
    "byte_level": foreign_tokenizers.byte_level(),
    "sentencepiece": foreign_tokenizers.sentencepiece(),
    "unigram": foreign_tokenizers.unigram(),
}
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
TOKENIZERS = {
    name: Tokenizer(pipeline.to_str(), Settings(names=NAMES, end_ids=[])) for name, pipeline in PIPELINES.items()
}
PARTS = st.text() | st.sampled_from(
    ["\n", "\r\n", "  ", "\u0301", "👩‍👩‍👧", "中文", "\x00", "\x85", "▁", "the end", "<0x41>", "\u202e"]
)
ANY_TEXT = st.lists(PARTS).map("".join)
HOSTILE = st.lists(st.sampled_from([*SPECIAL, "<unk>", "<|", "|>", "end", "<"]) | PARTS).map("".join)
ORDINARY = ANY_TEXT.filter(lambda text: not any(name in text for name in [*SPECIAL, "<unk>"]))

FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)


@pytest.fixture(params=TOKENIZERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(deadline=None, max_examples=60)
@given(ORDINARY)
def test_the_ids_of_the_library(kind: str, text: str) -> None:
    ids = PIPELINES[kind].encode(text, add_special_tokens=False).ids
    tokenizer = TOKENIZERS[kind]
    assert tokenizer.encode(text) == ids == tokenizer.encode_batch([text])[0].tolist()
    assert tokenizer.encode(text, parse_special=True) == ids


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(deadline=None, max_examples=60)
@given(HOSTILE)
def test_text_becomes_no_special_token(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    special = {id for name, id in tokenizer.special.items() if name != "<unk>"}
    for ids in (tokenizer.encode(text), tokenizer.encode_batch([text])[0].tolist(), tokenizer.continue_ids(text)):
        assert special.isdisjoint(ids)


def test_a_vocabulary_that_would_build_one_is_not_let(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    assert tokenizer.encode("</s>", parse_special=True)[-1] == tokenizer.special["</s>"]
    assert tokenizer.decode(tokenizer.encode("a </s> b")) == "a </s> b"
    whole_word = models.BPE({"<": 0, "s": 1, ">": 2, "<s": 3, "<s>": 4}, [("<", "s"), ("<s", ">")])
    pipeline = Pipeline(whole_word)
    pipeline.add_special_tokens(["<s>"])
    assert Tokenizer(pipeline.to_str()).encode("<s>") == [3, 2]


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("listed", [True, False])
def test_added_tokens_that_the_model_has_no_row_for_are_left_out(name: str, special: bool, listed: bool) -> None:
    """Gemma 3's text models come with a token for images."""
    rows = TOKENIZERS[name].vocab_size
    if listed and name == "sentencepiece":
        # Among the ordinary tokens too, as Gemma's file has it.
        description = json.loads(PIPELINES[name].to_str())
        description["model"]["vocab"]["<image>"] = rows
        pipeline = Pipeline.from_str(json.dumps(description))
    else:
        pipeline = Pipeline.from_str(PIPELINES[name].to_str())
    pipeline.add_tokens([AddedToken("<image>", special=special, normalized=False)])
    beside = [{"content": "<video>", "id": rows + 1, "special": special}]
    more = Tokenizer(pipeline.to_str(), Settings(names={**NAMES, "pad_token": "<image>"}, added=beside))
    assert more.vocab_size == rows + 2 and max(more.encode("a <image> b", parse_special=True)) == rows
    cut = cut_to_rows(more, rows)
    assert cut.vocab_size == rows and cut.pad_id is None
    for text in ("a <image> b", "<video>", *TEXTS[:3]):
        for parse in (True, False):
            ids = TOKENIZERS[name].encode(text, parse_special=parse)
            assert cut.encode(text, parse_special=parse) == ids and max(ids) < rows
    assert Tokenizer(cut.to_json(), cut.settings).vocab_size == rows
    assert cut_to_rows(more, rows + 2) is more
    with pytest.raises(OwnlmError, match="copy the tokenizer that belongs to it"):
        cut_to_rows(more, rows - 100)


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(deadline=None, max_examples=60)
@given(st.data(), st.booleans())
def test_pieces_joined_are_the_decoded_text(kind: str, data: st.DataObject, skip_special: bool) -> None:
    tokenizer = TOKENIZERS[kind]
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    decoder = tokenizer.stream(skip_special=skip_special)
    assert "".join([*map(decoder.push, ids), decoder.finish()]) == tokenizer.decode(ids, skip_special=skip_special)


@pytest.mark.parametrize("kind", ["byte_level", "sentencepiece"])
@settings(deadline=None, max_examples=60)
@given(ORDINARY)
def test_decoding_as_the_library_does(kind: str, text: str) -> None:
    ids = TOKENIZERS[kind].encode(text)
    assert TOKENIZERS[kind].decode(ids) == PIPELINES[kind].decode(ids)


def test_the_space_in_front_belongs_to_a_beginning() -> None:
    tokenizer = TOKENIZERS["sentencepiece"]
    ids = tokenizer.encode("the end of the text")
    assert tokenizer.decode(ids) == "the end of the text"
    going_on = tokenizer.stream(after=ids[:1])
    assert "".join(map(going_on.push, tokenizer.encode("more"))) == " more"
    after_a_special_one = tokenizer.stream(after=[tokenizer.special["<|end|>"]])
    assert "".join(map(after_a_special_one.push, tokenizer.encode("more"))) == "more"
    assert tokenizer.decode([*tokenizer.encode("a"), *tokenizer.continue_ids("b c")]) == "ab c"


def test_what_begins_and_ends_a_text() -> None:
    begin, end = (TOKENIZERS["byte_level"].special[name] for name in ("<s>", "</s>"))
    by_file = TOKENIZERS["byte_level"]
    assert by_file.prompt_ids("Hi") == [begin, *by_file.encode("Hi")] and by_file.prompt_ids("<s>")[1] != begin
    assert (by_file.bos_id, by_file.end_ids, by_file.pad_id, by_file.end_of_text_id) == (begin, (end,), None, end)
    without = TOKENIZERS["sentencepiece"]
    assert without.prompt_ids("Hi") == without.encode("Hi") and without.bos_id is not None


def test_a_folder_with_all_its_files(tmp_path: Path) -> None:
    pipeline = PIPELINES["byte_level"]
    end = pipeline.token_to_id("<|end|>")
    folder = write_folder(
        tmp_path,
        pipeline,
        tokenizer_config={
            **CONFIG,
            "pad_token": {"content": "<pad>", "special": True},
            "added_tokens_decoder": {str(pipeline.get_vocab_size()): {"content": "<pad>", "special": True}},
            "chat_template": [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}],
        },
        special_tokens_map={"bos_token": {"content": "<s>"}},
        generation_config={"eos_token_id": [end, pipeline.token_to_id("</s>")]},
        config={"eos_token_id": 1},
    )
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.end_ids == (end, pipeline.token_to_id("</s>")) and not tokenizer.own
    assert tokenizer.pad_id == pipeline.get_vocab_size() == tokenizer.vocab_size - 1
    assert tokenizer.settings.templates == {"default": "a", "tool_use": "b"}
    tokenizer.save(tmp_path / "again", chat=True)
    again = Tokenizer.load(tmp_path / "again")
    assert (again.special, again.prefix_ids, again.names) == (tokenizer.special, tokenizer.prefix_ids, tokenizer.names)
    assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]
    assert again.settings.templates == tokenizer.settings.templates


def test_gpt2s_older_files(tmp_path: Path) -> None:
    pipeline = PIPELINES["byte_level"]
    pipeline.model.save(str(tmp_path))
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.decode(tokenizer.encode("naïve text 123")) == "naïve text 123"
    (tmp_path / "merges.txt").write_text("no such\n", encoding="utf-8")
    with pytest.raises(DamagedError, match="do not fit"):
        Tokenizer.load(tmp_path)


def test_folders_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a")
    with pytest.raises(OwnlmError, match=r"tokenizer\.model but no tokenizer\.json; write one with transformers"):
        Tokenizer.load(tmp_path)
    pipeline = Pipeline(models.BPE())
    folder = write_folder(tmp_path / "unknown", pipeline)
    text = (folder / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "tokenizer.json").write_text(
        text.replace(
            '"decoder":null', '"decoder":{"type":"CTC","pad_token":"<pad>","word_delimiter_token":"|","cleanup":true}'
        ),
        encoding="utf-8",
    )
    with pytest.raises(OwnlmError, match="decodes with 'CTC'"):
        Tokenizer.load(folder)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text("[", encoding="utf-8")
    with pytest.raises(DamagedError, match="is not JSON"):
        Tokenizer.load(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model.vocab.a": 10**9}, "its ids are far apart"),
        ({"added_tokens": [{**FLAGS, "id": 10**9, "content": "<x>"}]}, "cannot have the id 1000000000"),
        ({"added_tokens": [{"content": "<x>"}]}, "is damaged"),
        ({"decoder": 7}, "is damaged"),
        ({"model.continuing_subword_prefix": "#" * 50}, "lacks the prefix of inner pieces"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_words(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    folder = write_folder(tmp_path, PIPELINES["byte_level"])
    description = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    for place, value in change.items():
        *sections, name = place.split(".")
        section = description
        for inner in sections:
            section = section[inner]
        section[name] = value
    (folder / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(DamagedError, match=said) as refused:
        Tokenizer.load(folder)
    assert "Error" not in str(refused.value) and "index" not in str(refused.value)


def test_marks_that_gguf_cannot_hold() -> None:
    description = json.loads(PIPELINES["byte_level"].to_str())
    description["model"]["end_of_word_suffix"] = "</w>"
    tokenizer = Tokenizer(json.dumps(description))
    with pytest.raises(OwnlmError, match="no place for this tokenizer's end_of_word_suffix; keep the folder"):
        gguf_metadata(tokenizer, padded_vocab_size=tokenizer.vocab_size)


def test_more_than_one_end_is_kept_in_gguf(tmp_path: Path) -> None:
    pipeline = PIPELINES["byte_level"]
    ends = [pipeline.token_to_id(name) for name in ("<|user|>", "<|assistant|>", "</s>")]
    folder = write_folder(tmp_path, pipeline, generation_config={"eos_token_id": ends})
    tokenizer = Tokenizer.load(folder)
    again = tokenizer_from_gguf(gguf_metadata(tokenizer, padded_vocab_size=tokenizer.vocab_size))
    assert set(tokenizer.end_ids) == set(ends) <= set(again.end_ids)


def test_a_tokenizer_without_names_says_what_it_lacks() -> None:
    tokenizer = Tokenizer(PIPELINES["byte_level"].to_str())
    assert (tokenizer.bos_id, tokenizer.end_ids, tokenizer.never_generated) == (None, (), ())
    for ask in (lambda: tokenizer.im_end_id, lambda: tokenizer.end_of_text_id):
        with pytest.raises(OwnlmError):
            ask()


def test_a_hundred_thousand_times_one_letter(name: str) -> None:
    for letter in ("a", "é", "👩"):
        started = time.process_time()
        TOKENIZERS[name].encode(letter * 100_000)
        assert time.process_time() - started < 2
