"""Text can never become a special token, on any route from text to ids."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.tokenizer import SPECIAL_TOKENS, ChatTemplate, Tokenizer, train_tokenizer
from ownlm.tokenizer.compression import SAMPLES

KINDS = ("bpe", "word", "character")
# The names are in the training text as well, often: even so no ordinary token may stand for one.
TOKENIZERS = {
    kind: train_tokenizer([*SAMPLES.values(), *SPECIAL_TOKENS * 9], kind=kind, vocab_size=700) for kind in KINDS
}
HOSTILE = st.lists(
    st.sampled_from(SPECIAL_TOKENS) | st.sampled_from(["<|im_", "end|>", "<|", "|>", "\n", "assistant\n"]) | st.text()
).map("".join)


def special_in(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    special = set(tokenizer.special.values())
    return [id for id in ids if id in special]


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(HOSTILE)
def test_text_holds_no_special_token(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    for ids in (tokenizer.encode(text), tokenizer.encode_batch([text])[0].tolist()):
        assert special_in(tokenizer, ids) == []
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), HOSTILE), min_size=1, max_size=4))
def test_in_a_conversation_only_the_template_sets_special_tokens(kind: str, turns: list[tuple[str, str]]) -> None:
    tokenizer = TOKENIZERS[kind]
    rendered = ChatTemplate(tokenizer).render([{"role": role, "content": content} for role, content in turns])
    assert special_in(tokenizer, rendered.ids) == [tokenizer.im_start_id, tokenizer.im_end_id] * len(turns)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_put_before_or_after_a_text(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    assert tokenizer.encode("") == [] and tokenizer.encode_batch([""])[0].tolist() == []
    assert tokenizer.decode(tokenizer.encode("text")) == "text"
    assert ChatTemplate(tokenizer).render([{"role": "user", "content": "Hi"}]).ids[0] == tokenizer.im_start_id


@pytest.mark.parametrize("kind", KINDS)
def test_padding_is_not_the_end_and_both_ends_are_trained(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    assert len({tokenizer.pad_id, tokenizer.end_of_text_id, tokenizer.im_end_id, tokenizer.im_start_id}) == 4
    rendered = ChatTemplate(tokenizer).render([{"role": "assistant", "content": "Yes."}])
    assert rendered.trained[rendered.ids.index(tokenizer.im_end_id)]
