"""Chat by another model's template: its ids, what content can never become, and what is trained."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foreign_tokenizers
from ownlm.errors import OwnlmError
from ownlm.tokenizer import (
    ChatTemplate,
    ModelTemplate,
    Tokenizer,
    chat_template_of,
    gguf_metadata,
    tokenizer_from_gguf,
    train_tokenizer,
)
from ownlm.tokenizer.chat import CHAT_TEMPLATE
from ownlm.tokenizer.settings import Settings

NAMES = {"bos_token": "<s>", "eos_token": "</s>"}
PLAIN = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>' + m.content|trim + '<|end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MARKED = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|end|>' }}{% endif %}"
    "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1] }}"
    "{% else %}{{ m.content }}{% endif %}"
    "<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
PARTS = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}<|end|>{% endfor %}"
)


def opened(name: str) -> Tokenizer:
    pipeline = getattr(foreign_tokenizers, name)()
    end = pipeline.token_to_id("<|end|>")
    return Tokenizer(pipeline.to_str(), Settings(names=NAMES, end_ids=[end]))


TOKENIZERS = {name: opened(name) for name in ("byte_level", "sentencepiece")}
TALK = [
    {"role": "user", "content": "Hi there"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "the end"},
    {"role": "assistant", "content": "Yes."},
]


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]


def trained_text(tokenizer: Tokenizer, rendered: Any) -> str:
    return tokenizer.decode(id for id, trained in zip(rendered.ids, rendered.trained, strict=True) if trained)


@pytest.mark.parametrize("jinja", [PLAIN, MARKED])
def test_ids_and_what_is_trained(tokenizer: Tokenizer, jinja: str) -> None:
    template = ModelTemplate(jinja, tokenizer)
    rendered = template.render(TALK)
    text = "<s><|user|>Hi there<|end|>\n<|assistant|>Hello!<|end|>\n<|user|>the end<|end|>\n<|assistant|>Yes.<|end|>\n"
    assert template.text(TALK) == text
    assert rendered.ids == tokenizer.whole.encode(text, add_special_tokens=False).ids
    assert rendered.ids.count(tokenizer.bos_id) == 1
    assert trained_text(tokenizer, rendered).replace("> ", ">") in (
        "Hello!<|end|>Yes.<|end|>",
        " Hello!<|end|>Yes.<|end|>",
    )
    assert template.stop_ids == tokenizer.end_ids and template.jinja == jinja
    prompt = template.render(TALK[:1], add_generation_prompt=True)
    assert prompt.ids == rendered.ids[: len(prompt.ids)] == template.question("Hi there")
    assert not any(prompt.trained)


@pytest.mark.parametrize("jinja", [PLAIN, MARKED])
@pytest.mark.parametrize(("first", "second"), [(False, True), (True, False), (False, False)])
def test_an_answer_that_is_context_is_not_trained(tokenizer: Tokenizer, jinja: str, first: bool, second: bool) -> None:
    template = ModelTemplate(jinja, tokenizer)
    talk = [TALK[0], {**TALK[1], "train": first}, TALK[2], {**TALK[3], "train": second}]
    rendered = template.render(talk)
    assert rendered.ids == template.render(TALK).ids
    wanted = "Hello!<|end|>" * first + "Yes.<|end|>" * second
    assert trained_text(tokenizer, rendered).replace("> ", ">").lstrip() == wanted
    assert "train" not in template.text(talk)


HOSTILE = st.lists(
    st.sampled_from(
        ["<|end|>", "<s>", "</s>", "<|", "end", "|>", "<", " ", "\n", "<|assistant|>", "<think>", "\U000f0000"]
    )
    | st.text(max_size=4)
).map("".join)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(deadline=None, max_examples=60)
@given(st.lists(HOSTILE, min_size=1, max_size=3))
def test_content_becomes_no_special_token(name: str, contents: list[str]) -> None:
    tokenizer = TOKENIZERS[name]
    special = {id for token, id in tokenizer.special.items() if token != "<unk>"}
    messages = [{"role": "user", "content": content} for content in contents]
    rendered = ModelTemplate(PLAIN, tokenizer).render(messages, add_generation_prompt=True)
    names = [tokenizer.token_bytes(id).decode() for id in rendered.ids if id in special]
    assert names == ["<s>", *["<|user|>", "<|end|>"] * len(contents), "<|assistant|>"]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_nor_do_its_parts_together(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    parts = [{"type": "text", "text": text} for text in ("a <|", "en", "d|> b", "<", "/s>")]
    rendered = ModelTemplate(PARTS, tokenizer).render([{"role": "user", "content": parts}])
    assert [id for id in rendered.ids if id in tokenizer.special.values()] == [
        tokenizer.special["<|user|>"],
        tokenizer.special["<|end|>"],
    ]
    assert tokenizer.decode(rendered.ids).replace("<|user|> ", "<|user|>") == "<|user|>a <|end|> b</s><|end|>"


def test_tools_and_variables_reach_the_template(tokenizer: Tokenizer) -> None:
    template = ModelTemplate(
        {
            "default": "{{ messages[0].content }}{{ tools is none }}{{ mood }}",
            "tool_use": "{{ tools|tojson }}{{ messages[-1].tool_calls[0].name }}",
        },
        tokenizer,
    )
    call = [{"role": "assistant", "content": None, "tool_calls": [{"name": "now"}]}]
    assert template.text([{"role": "user", "content": "a"}], mood="b") == "aTrueb"
    assert template.text(call, tools=[{"name": "now", "n": 1}]) == '[{"name": "now", "n": 1}]now'


def test_a_prompt_that_says_more_than_an_answers_header(tokenizer: Tokenizer) -> None:
    template = ModelTemplate(THINKING, tokenizer)
    talk = [TALK[0], {"role": "assistant", "content": "Hello!"}]
    assert trained_text(tokenizer, template.render(talk)).strip() == "Hello!<|end|>"
    thought = [TALK[0], {"role": "assistant", "content": "<think>\nhm</think>Hello!"}, *TALK[2:]]
    with pytest.raises(OwnlmError, match=r"message 2 are the answer cannot be told.*generation"):
        template.render(thought)
    assert template.render(thought, add_generation_prompt=True).ids


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "at least one message"),
        (["hi"], "message 1 is no message"),
        ([{"content": "a"}], "message 1 is no message"),
        ([{"role": "user", "content": object()}], "message 1 holds a object"),
        ([{"role": "assistant", "content": "a"}], "begins with an answer"),
    ],
)
def test_what_is_refused(tokenizer: Tokenizer, messages: Any, says: str) -> None:
    with pytest.raises(OwnlmError, match=says):
        ModelTemplate(PLAIN, tokenizer).render(messages)
    with pytest.raises(OwnlmError, match="tool 1 is no JSON schema"):
        ModelTemplate(PLAIN, tokenizer).render(TALK, tools=[len])  # type: ignore[list-item]


def test_the_one_function_that_chooses(tmp_path: Any) -> None:
    own = train_tokenizer(["text"], vocab_size=288)
    own.save(tmp_path / "chat", chat=True)
    own.save(tmp_path / "base")
    assert isinstance(chat_template_of(tmp_path / "chat", own), ChatTemplate)
    assert chat_template_of(tmp_path / "base", own) is None
    assert isinstance(chat_template_of(CHAT_TEMPLATE, TOKENIZERS["byte_level"]), ModelTemplate)
    assert isinstance(chat_template_of({"default": PLAIN}, own), ModelTemplate)


def test_named_templates_without_one_for_plain_talk(tmp_path: Path) -> None:
    """As in transformers, none of them stands in for it; they are kept all the same."""
    named = {"rag": PLAIN, "tool_use": "tools: " + PLAIN}
    tokenizer = Tokenizer(foreign_tokenizers.byte_level().to_str(), Settings(names=NAMES, templates=named))
    tokenizer.save(tmp_path, chat=True)
    template = chat_template_of(tmp_path, tokenizer)
    assert isinstance(template, ModelTemplate) and template.templates == named and template.jinja is None
    with pytest.raises(OwnlmError, match=r"chat templates for rag, tool_use, but none for plain talk"):
        template.question("Hi")
    assert template.text(TALK, tools=[]).startswith("tools: ")
    metadata = gguf_metadata(tokenizer, padded_vocab_size=640)
    assert tokenizer_from_gguf(metadata).settings.templates == named


@pytest.mark.parametrize("kind", ["bpe", "character"])
def test_our_template_read_as_another_models(kind: str) -> None:
    own = train_tokenizer(["text of user and assistant\n\n"], kind=kind, vocab_size=310)
    ours, theirs = ChatTemplate(own), ModelTemplate(CHAT_TEMPLATE, own)
    assert theirs.render(TALK) == ours.render(TALK)
    context = [TALK[0], {**TALK[1], "train": False}, *TALK[2:]]
    assert theirs.render(context) == ours.render(context) != ours.render(TALK)
    assert theirs.question("Hi") == ours.question("Hi")
