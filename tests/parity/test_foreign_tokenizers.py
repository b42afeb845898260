"""Other models' tokenizer folders against transformers' AutoTokenizer: ids, BOS, and what we write again."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foreign_tokenizers
from foreign_tokenizers import CONFIG, SPECIAL, TEXTS, write_folder
from ownlm.tokenizer import ModelTemplate, Tokenizer, gguf_metadata, tokenizer_from_gguf
from ownlm.tokenizer.settings import Settings

pytestmark = pytest.mark.peers
TEMPLATE = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"
FOLDERS: dict[str, dict[str, Any]] = {
    "byte_level": {"tokenizer_config": CONFIG},
    "byte_level, BOS asked for": {"tokenizer_config": {**CONFIG, "add_bos_token": True}},
    "byte_level, BOS declined": {"tokenizer_config": {**CONFIG, "add_bos_token": False}},
    "sentencepiece": {"tokenizer_config": CONFIG},
    "sentencepiece, BOS asked for": {"tokenizer_config": {**CONFIG, "add_bos_token": True}},
    "unigram": {"tokenizer_config": {**CONFIG, "unk_token": "<unk>"}},
}


@pytest.fixture(scope="module", params=FOLDERS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    from transformers import AutoTokenizer

    pipeline = getattr(foreign_tokenizers, request.param.partition(",")[0])()
    folder = write_folder(tmp_path_factory.mktemp("folder"), pipeline, **FOLDERS[request.param])
    return Tokenizer.load(folder), AutoTokenizer.from_pretrained(folder)


@settings(deadline=None, max_examples=40)
@given(text=st.text() | st.sampled_from(TEXTS))
def test_the_same_ids(pair: tuple[Tokenizer, Any], text: str) -> None:
    tokenizer, peer = pair
    if not any(name in text for name in [*SPECIAL, "<unk>"]):
        assert peer(text)["input_ids"] == tokenizer.prompt_ids(text)
        assert peer(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
    marked = f"<|user|>{text}<|end|>"
    assert peer(marked, add_special_tokens=False)["input_ids"] == tokenizer.encode(marked, parse_special=True)


def test_the_same_special_tokens_and_prompts(pair: tuple[Tokenizer, Any]) -> None:
    tokenizer, peer = pair
    assert peer.bos_token_id == tokenizer.bos_id and peer.eos_token_id == tokenizer.end_ids[0]
    talk = [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Hello"}]
    prompt = ModelTemplate(TEMPLATE, tokenizer).render(talk, add_generation_prompt=True).ids
    theirs = peer.apply_chat_template(talk, chat_template=TEMPLATE, return_dict=False)
    assert prompt == theirs and prompt.count(tokenizer.bos_id) == 1


@pytest.mark.parametrize("name", ["byte_level", "sentencepiece"])
def test_transformers_opens_what_came_from_a_gguf(tmp_path: Path, name: str) -> None:
    from transformers import AutoTokenizer

    names = {"bos_token": "<s>", "eos_token": "</s>"}
    first = Tokenizer(getattr(foreign_tokenizers, name)().to_str(), Settings(names=names))
    tokenizer = tokenizer_from_gguf(gguf_metadata(first, padded_vocab_size=first.padded_vocab_size))
    tokenizer.save(tmp_path)
    peer, again = AutoTokenizer.from_pretrained(tmp_path), Tokenizer.load(tmp_path)
    for text in TEXTS:
        assert peer(text)["input_ids"] == tokenizer.prompt_ids(text) == again.prompt_ids(text)
