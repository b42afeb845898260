"""Lines to examples: what is trained, what is too long, what a template does not take."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import foreign_tokenizers
from ownlm.errors import OwnlmError
from ownlm.tokenizer import CHAT_TEMPLATE, ChatTemplate, ModelTemplate, Tokenizer
from ownlm.tokenizer.settings import Settings
from ownlm.train.conversations import ConversationRows, render_examples
from ownlm.train.render import Example, Renderer
from tiny_models import tiny_tokenizer

OWN = tiny_tokenizer()
OURS = ChatTemplate(OWN)
# Both write ChatML; the second one leaves the thoughts of earlier answers out, as Qwen3's does.
MARKED = ModelTemplate(CHAT_TEMPLATE, OWN)
FORGETFUL = ModelTemplate(
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('~')[-1] }}{% else %}{{ m.content }}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    OWN,
)


def turn(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def said(example: Example) -> str:
    return OWN.decode(example.ids[example.trained])


TURNS = st.lists(
    st.tuples(st.text("ab c\n", min_size=1, max_size=30), st.text("xyz ", min_size=1, max_size=30), st.booleans()),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(TURNS, st.integers(8, 60), st.booleans())
def test_whole_turns_go_first_and_whole_answers_keep_their_end(
    turns: list[tuple[str, str, bool]], context: int, system: bool
) -> None:
    messages = [turn("system", "Be brief.")] * system
    for question, answer, train in turns:
        messages += [turn("user", question), turn("assistant", answer, train=train)]
    rendered = [render_or_none({"messages": messages}, template, context) for template in (OURS, MARKED)]
    assert [[e.ids.tolist() for e in each] for each in rendered] == [[e.ids.tolist() for e in rendered[0]]] * 2
    assert [[e.trained.tolist() for e in each] for each in rendered] == [[e.trained.tolist() for e in rendered[0]]] * 2
    wanted = [answer + "<|im_end|>" for _, answer, train in turns if train]
    whole = OURS.render(messages).ids
    for example in rendered[0]:
        assert len(example.ids) <= context + 1 and not example.trained[0]
        if len(whole) <= context + 1:
            assert said(example) == "".join(wanted)
        elif example.ids[-1] == whole[-1]:
            assert said(example) and "".join(wanted).endswith(said(example))
        else:
            assert len(example.ids) == context + 1


def render_or_none(line: dict[str, Any], template: ChatTemplate | ModelTemplate, context: int) -> list[Example]:
    try:
        return render_examples([line], template, context=context)[0]
    except OwnlmError as error:
        assert "no conversation has" in str(error)
        return []


def test_the_system_turn_stays_and_what_went_is_counted() -> None:
    talk = [turn("system", "Be kind."), *[turn(r, f"{r} {n}") for n in range(9) for r in ("user", "assistant")]]
    (example,), counts = render_examples([{"messages": talk}], OURS, context=70)
    text = OWN.decode(example.ids)
    assert text.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n")
    assert text.endswith("assistant 8<|im_end|>\n") and len(example.ids) <= 71
    assert counts.shortened == 1 and counts.turns_left_out == 18 - (text.count("<|im_start|>") - 1) > 0


def test_an_answer_too_long_for_the_context_keeps_its_question() -> None:
    (example,), counts = render_examples([[turn("user", "Hi"), turn("assistant", "word " * 90)]], OURS, context=40)
    assert OWN.decode(example.ids).startswith("<|im_start|>user\nHi") and len(example.ids) == 41
    assert counts.shortened == 1 and OWN.im_end_id not in example.ids[example.trained]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("the cat\n", min_size=0, max_size=200), min_size=1, max_size=6), st.integers(1, 40))
def test_every_token_of_a_document_is_a_target_once(texts: list[str], context: int) -> None:
    expected = sorted(id for text in texts for id in [*OWN.encode(text), OWN.end_of_text_id][1:])
    if not expected:
        return
    examples, counts = render_examples([{"text": text} for text in texts], None, context=context, tokenizer=OWN)
    assert sorted(id for e in examples for id in e.ids[e.trained].tolist()) == expected
    assert counts.documents == len(texts) and counts.trained_tokens == len(expected)
    rows = ConversationRows(examples, context=context, seed=1)
    number, seen = 0, list[int]()
    while len(seen) < len(examples):
        seen += rows._members(number)
        number += 1
    assert sorted(seen) == list(range(len(examples)))
    batch = rows.batch(0, number)
    assert sorted(batch.targets_BT[batch.targets_BT >= 0].tolist()) == expected


def test_a_text_that_begins_with_a_token_of_its_own_is_not_trained_on_it() -> None:
    pipeline = foreign_tokenizers.sentencepiece()
    names = {"bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = Tokenizer(pipeline.to_str(), Settings(names=names))
    (example,), _ = render_examples([{"text": "the end"}], None, context=64, tokenizer=tokenizer)
    assert example.ids.tolist() == [*tokenizer.prompt_ids("the end"), tokenizer.end_of_text_id]
    assert example.trained.tolist() == [False] + [True] * (len(example.ids) - 1)


def test_a_template_that_rewrites_earlier_turns_gives_an_example_for_each_answer() -> None:
    talk = [turn("user", "a"), turn("assistant", "hm~One."), turn("user", "b"), turn("assistant", "so~Two.")]
    examples, counts = render_examples([{"messages": talk}], FORGETFUL, context=99)
    assert [said(example) for example in examples] == ["hm~One.<|im_end|>", "so~Two.<|im_end|>"]
    assert "hm" not in OWN.decode(examples[1].ids) and counts.split == 1
    last_alone = [*talk[:1], turn("assistant", "hm~One.", train=False), *talk[2:]]
    examples, counts = render_examples([{"messages": last_alone}], FORGETFUL, context=99)
    assert [said(example) for example in examples] == ["so~Two.<|im_end|>"] and counts.split == 0


def test_what_a_template_refuses_is_counted_and_too_much_of_it_stops() -> None:
    good = {"messages": [turn("user", "a"), turn("assistant", "b")]}
    tools = {**good, "tools": [{"name": "now"}]}
    examples, counts = render_examples([*[good] * 30, tools], OURS, context=64)
    assert len(examples) == 30 and counts.refused == 1 and counts.refusals[0].startswith("line 31: our own chat format")
    with pytest.raises(OwnlmError, match=r"^6 of 16 conversations do not suit the chat template; line 11: our own"):
        render_examples([*[good] * 10, *[tools] * 6], OURS, context=64)
    with pytest.raises(OwnlmError, match="no chat template; name one in the recipe"):
        render_examples([good], None, context=64, tokenizer=OWN)


def test_tools_reach_the_template() -> None:
    template = ModelTemplate("{{ tools[0].name }}" + FORGETFUL.templates["default"], OWN)
    line = {"messages": [turn("user", "a"), turn("assistant", "b")], "tools": [{"name": "clock"}]}
    (example,), _ = render_examples([line], template, context=64)
    assert OWN.decode(example.ids).startswith("clock<|im_start|>user") and said(example) == "b<|im_end|>"


@pytest.mark.slow
def test_published_templates_train_every_answer_and_nothing_that_was_asked(shared_data: Path) -> None:
    talk = [turn("user", "Ask me"), turn("assistant", "Hello you!"), turn("user", "Why?"), turn("assistant", "It is.")]
    right = 0
    for path in sorted((shared_data / "chat-templates").glob("*.jinja")):
        try:
            template = ModelTemplate(path.read_text(encoding="utf-8"), OWN)
            renderer = Renderer(template=template, tokenizer=OWN, context=9999)
            trained = "".join(map(said, renderer.examples({"messages": talk})))
        except OwnlmError:
            continue
        assert trained.count("Hello you!") == trained.count("It is.") == 1, path.name
        assert "Ask me" not in trained and "Why?" not in trained, path.name
        right += 1
    assert right >= 63
