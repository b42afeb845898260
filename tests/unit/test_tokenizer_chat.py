"""Chat: ids and mask, the Jinja template held against them, and what is refused."""

from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Pipeline

from ownlm.errors import OwnlmError
from ownlm.tokenizer import CHAT_TEMPLATE, SPECIAL_TOKENS, ChatTemplate, Tokenizer, train_tokenizer
from ownlm.tokenizer.compression import SAMPLES

TEXTS = [*SAMPLES.values(), "user\nassistant\nsystem\ntool\n\n\n\n"] * 2
TEMPLATES = {
    kind: ChatTemplate(train_tokenizer(TEXTS, kind=kind, vocab_size=400)) for kind in ("bpe", "word", "character")
}
WITH_SPECIAL_TOKENS = {kind: Pipeline.from_str(template.tokenizer.to_json()) for kind, template in TEMPLATES.items()}
# Other programs take these names for the special tokens; ours do not (tests/invariants/test_special_tokens.py).
CONTENT = (
    st.lists(st.text() | st.sampled_from(["\n", "\r\n", " ", "\t", "\x1c", "\x85", "  if x:", "0"]))
    .map("".join)
    .filter(lambda text: not any(name in text for name in SPECIAL_TOKENS))
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": CONTENT}),
    min_size=1,
    max_size=5,
)


class GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` marks what is trained; transformers adds it to Jinja in the same way."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own declaration)

    def parse(self, parser: Any) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_same"), [], [], body).set_lineno(line)

    def _same(self, caller: Any) -> str:
        return caller()


IN_JINJA = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag]
).from_string(CHAT_TEMPLATE)


@pytest.fixture(params=TEMPLATES)
def template(request: pytest.FixtureRequest) -> ChatTemplate:
    return TEMPLATES[request.param]


def trained_text(tokenizer: Tokenizer, rendered: Any) -> str:
    return tokenizer.decode(id for id, trained in zip(rendered.ids, rendered.trained, strict=True) if trained)


def test_the_format_and_what_is_trained(template: ChatTemplate) -> None:
    rendered = template.render(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": "Bye"},
            {"role": "assistant", "content": ""},
        ]
    )
    assert template.tokenizer.decode(rendered.ids) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello!<|im_end|>\n"
        "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n"
    )
    assert trained_text(template.tokenizer, rendered) == "Hello!<|im_end|><|im_end|>"
    assert template.stop_ids == (template.tokenizer.im_end_id, template.tokenizer.end_of_text_id)


@pytest.mark.parametrize("kind", TEMPLATES)
@settings(deadline=None, max_examples=50)
@given(messages=MESSAGES, more=st.booleans())
def test_the_jinja_template_gives_the_same_ids(kind: str, messages: list[dict[str, str]], more: bool) -> None:
    template = TEMPLATES[kind]
    text = IN_JINJA.render(messages=messages, add_generation_prompt=more)
    rendered = template.render(messages, add_generation_prompt=more)
    assert template.tokenizer.decode(rendered.ids) == text
    assert WITH_SPECIAL_TOKENS[kind].encode(text, add_special_tokens=False).ids == rendered.ids


@pytest.mark.parametrize("kind", TEMPLATES)
@settings(deadline=None, max_examples=50)
@given(messages=MESSAGES, answer=CONTENT)
def test_the_prompt_begins_the_trained_conversation(kind: str, messages: list[dict[str, str]], answer: str) -> None:
    template = TEMPLATES[kind]
    prompt = template.render(messages, add_generation_prompt=True)
    whole = template.render([*messages, {"role": "assistant", "content": answer}])
    assert whole.ids[: len(prompt.ids)] == prompt.ids
    assert whole.trained[: len(prompt.ids)] == prompt.trained
    rest = whole.trained[len(prompt.ids) :]
    assert rest == [True] * (len(rest) - 1) + [False]


def test_blank_lines_before_an_answer_are_dropped_but_not_its_indent(template: ChatTemplate) -> None:
    for content in ("\n\r\n    pass\n", " \n    pass\n", "    pass\n"):
        rendered = template.render([{"role": "assistant", "content": content}])
        assert trained_text(template.tokenizer, rendered) == "    pass\n<|im_end|>"


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "at least one message"),
        (
            [{"role": "user", "content": "a"}, {"role": "bot", "content": "b"}],
            "message 2 has the role 'bot'; use one of",
        ),
        ([{"content": "a"}], "message 1 has the role None"),
        ([{"role": "user", "content": ["a"]}], r"message 1 \(user\) has content of type list"),
        ([{"role": "user", "content": None}], "content of type NoneType"),
        ([{"role": "assistant", "content": "", "tool_calls": [{}]}], "tool_calls"),
        (["hello"], "message 1 is no message"),
    ],
)
def test_what_is_refused(messages: Any, says: str) -> None:
    with pytest.raises(OwnlmError, match=says):
        TEMPLATES["bpe"].render(messages)
