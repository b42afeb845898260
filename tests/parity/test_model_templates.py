"""Other models' chat templates against transformers: its recorded output and, with peers, 70 published templates."""

import json
from pathlib import Path
from typing import Any

import pytest

from ownlm.errors import OwnlmError
from ownlm.tokenizer import ModelTemplate, Tokenizer
from ownlm.tokenizer.jinja_template import JinjaTemplate

REFERENCES = Path(__file__).parent / "references"
CASES = json.loads((REFERENCES / "model_templates.json").read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("case", CASES)
def test_renders_as_transformers_did(case: dict[str, Any]) -> None:
    tokenizer = Tokenizer.load(REFERENCES / "foreign_tokenizer")
    template = ModelTemplate(case["template"], tokenizer)
    given = {"messages": case["messages"], "tools": case["tools"]}
    assert template.text(**given) == case["text"]
    rendered = template.render(**given)
    assert rendered.ids == case["ids"]
    assert template.render(**given, add_generation_prompt=True).ids == case["prompt_ids"]
    begins = case["text"].count("<s>")
    assert rendered.ids.count(tokenizer.bos_id) == begins <= 1
    if "trained" in case:
        assert rendered.trained == [bool(flag) for flag in case["trained"]]
    else:
        assert any(rendered.trained)


CALL = {"id": "call12345", "type": "function", "function": {"name": "now", "arguments": {"zone": "UTC", "n": [1, 2]}}}
TOOL = {
    "type": "function",
    "function": {
        "name": "now",
        "description": "The time.",
        "parameters": {
            "type": "object",
            "properties": {"zone": {"type": "string", "description": "Of the clock."}},
            "required": ["zone"],
        },
    },
}
TALKS: list[list[dict[str, Any]]] = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi <b>é</b>"}],
    [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "And?\n"},
    ],
    [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!", "reasoning_content": "A greeting."},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nNothing."},
    ],
    [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}],
    [
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "12:00", "name": "now", "tool_call_id": "call12345"},
        {"role": "assistant", "content": "Noon."},
        {"role": "user", "content": "Thanks"},
    ],
]
VARIABLES = {"bos_token": "<s>", "eos_token": "</s>", "date_string": "1 Jan 2026"}


@pytest.mark.peers
def test_published_templates_render_the_same(shared_data: Path) -> None:
    """Every template, every conversation, with tools and without: the same text, or both refuse."""
    from transformers.utils.chat_template_utils import render_jinja_template

    paths = sorted((shared_data / "chat-templates").glob("*.jinja"))
    assert len(paths) >= 69
    different, rendered, refused = [], 0, 0
    for path in paths:
        text = path.read_text(encoding="utf-8")
        template = JinjaTemplate(text)
        model = ModelTemplate(text, _Nameless())  # type: ignore[arg-type]
        for number, talk in enumerate(TALKS):
            for tools in (None, [TOOL]):
                for prompt in (False, True):
                    given = {"add_generation_prompt": prompt, **VARIABLES}
                    try:
                        [theirs], _ = render_jinja_template([talk], tools=tools, chat_template=text, **given)
                    except Exception:  # a template may raise anything
                        theirs = None
                    try:
                        ours = model.text(talk, tools=tools, **given)
                    except OwnlmError:
                        ours = None
                    rendered, refused = rendered + (theirs is not None), refused + (theirs is None)
                    if ours != theirs:
                        different.append((path.name, number, tools is not None, prompt, ours, theirs))
        assert template.text == text
    assert different == []
    assert rendered > 5 * refused


class _Nameless:
    """A tokenizer without special tokens: only the text is compared."""

    names: dict[str, str] = {}  # noqa: RUF012
    special: dict[str, int] = {}  # noqa: RUF012
    added_names: set[str] = set()  # noqa: RUF012
    end_ids = ()
