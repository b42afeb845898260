"""Our chat renderer and our tokenizers, held against transformers: its recorded output, and (peers) itself."""

import argparse
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.tokenizer import SPECIAL_TOKENS, ChatTemplate, Tokenizer, train_tokenizer
from ownlm.tokenizer.compression import SAMPLES

REFERENCES = Path(__file__).parent / "references"
CASES = json.loads((REFERENCES / "chat.json").read_text(encoding="utf-8"))["cases"]
KINDS = ("bpe", "word", "character")
REAL_TEXT = [*SAMPLES.values(), inspect.getsource(argparse)]
# Other programs take these names for the special tokens; ours do not (tests/invariants/test_special_tokens.py).
ORDINARY = (
    st.lists(st.text() | st.sampled_from(["\n", "\r\n", " ", "\t", "\x1c", "\x85", "'LL", "<|", "12"]))
    .map("".join)
    .filter(lambda text: not any(name in text for name in SPECIAL_TOKENS))
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": ORDINARY}),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("case", CASES)
def test_renders_as_transformers_did(case: dict[str, Any]) -> None:
    tokenizer = Tokenizer.load(REFERENCES / "chat_tokenizer")
    template = ChatTemplate(tokenizer)
    assert template.jinja == (REFERENCES / "chat_tokenizer/chat_template.jinja").read_text(encoding="utf-8")
    rendered = template.render(case["messages"])
    assert tokenizer.decode(rendered.ids) == case["text"]
    assert rendered.ids == case["ids"]
    assert rendered.trained == [bool(flag) for flag in case["trained"]]
    assert template.render(case["messages"], add_generation_prompt=True).ids == case["prompt_ids"]


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    """One of our tokenizers, and the same folder as transformers opens it."""
    from transformers import AutoTokenizer

    tokenizer = train_tokenizer(REAL_TEXT, kind=request.param, vocab_size=700)
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer.save(folder, chat=True, model_max_length=100_000)
    return tokenizer, AutoTokenizer.from_pretrained(folder)


@pytest.mark.peers
def test_transformers_opens_the_folder(pair: tuple[Tokenizer, Any]) -> None:
    tokenizer, peer = pair
    assert len(peer) == tokenizer.vocab_size
    assert peer.model_max_length == 100_000
    assert peer.bos_token is None and peer.eos_token == "<|im_end|>" and peer.pad_token == "<|pad|>"
    assert (peer.eos_token_id, peer.pad_token_id) == (tokenizer.im_end_id, tokenizer.pad_id)
    assert {name: peer.convert_tokens_to_ids(name) for name in SPECIAL_TOKENS} == tokenizer.special


@pytest.mark.peers
@pytest.mark.parametrize("text", REAL_TEXT)
def test_the_same_ids_on_real_text(pair: tuple[Tokenizer, Any], text: str) -> None:
    tokenizer, peer = pair
    ids = tokenizer.encode(text)
    assert peer(text)["input_ids"] == ids
    assert peer.decode(ids) == text


@pytest.mark.peers
@settings(deadline=None)
@given(text=ORDINARY)
def test_the_same_ids_on_any_ordinary_text(pair: tuple[Tokenizer, Any], text: str) -> None:
    tokenizer, peer = pair
    ids = tokenizer.encode(text)
    assert peer(text)["input_ids"] == ids
    assert peer.decode(ids) == text


@pytest.mark.peers
def test_told_to_transformers_too_keeps_text_apart_from_special_tokens(pair: tuple[Tokenizer, Any]) -> None:
    tokenizer, peer = pair
    text = "I say <|im_end|> and <think>."
    assert peer(text)["input_ids"] != tokenizer.encode(text)
    assert peer(text, split_special_tokens=True)["input_ids"] == tokenizer.encode(text)


@pytest.mark.peers
@settings(deadline=None)
@given(messages=MESSAGES)
def test_the_same_conversation(pair: tuple[Tokenizer, Any], messages: list[dict[str, str]]) -> None:
    tokenizer, peer = pair
    rendered = ChatTemplate(tokenizer).render(messages)
    theirs = peer.apply_chat_template(messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    assert theirs["input_ids"] == rendered.ids
    assert [bool(flag) for flag in theirs["assistant_masks"]] == rendered.trained
    prompt = peer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert prompt == ChatTemplate(tokenizer).render(messages, add_generation_prompt=True).ids
