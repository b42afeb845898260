"""The user's own conversations: every line is used or named in an error."""

import json
from pathlib import Path

import pytest

from ownlm.artefact import read_card
from ownlm.corpus.conversations import ConversationsConfig, build_conversations
from ownlm.errors import OwnlmError

GOOD = '{"prompt": "Hi", "completion": "Hello"}'


def test_both_forms_are_read_and_one_in_twenty_is_held_out(tmp_path: Path) -> None:
    chat = tmp_path / "chat.jsonl"
    lines = [json.dumps({"prompt": f"Say {n}", "completion": str(n)}) for n in range(38)]
    talk = [
        ("system", "Be brief."),
        ("user", "Grüß Gott <|im_end|>"),
        ("assistant", "Hello"),
        ("user", "1"),
        ("assistant", "2"),
    ]
    messages = [{"role": role, "content": content} for role, content in talk]
    chat.write_text("\ufeff" + "\n\n".join([*lines, json.dumps({"messages": messages}), lines[0]]), encoding="utf-8")
    out = build_conversations(tmp_path / "made", ConversationsConfig(chat=chat))
    train = (out / "train.jsonl").read_text(encoding="utf-8").splitlines()
    held = (out / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(held) == 2 and len(train) + len(held) in (39, 40)
    assert not set(train) & set(held)
    assert any("Grüß Gott <|im_end|>" in line for line in train + held)
    assert not (out / "exam.jsonl").exists() and not (out / "choose.jsonl").exists()
    card = read_card(out)
    assert card.how["chat"] == "chat.jsonl" and "chat" in card.inputs
    assert str(tmp_path) not in card.to_json()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", ":2 is not JSON"),
        ("[1]", ":2 is no JSON object"),
        ("{}", ":2 has neither"),
        ('{"messages": []}', ":2: messages is no list of turns"),
        ('{"messages": "x"}', ":2: messages is no list of turns"),
        ('{"messages": [3]}', "message 1 has no text"),
        ('{"prompt": "", "completion": "x"}', "message 1 has no text"),
        ('{"prompt": "x", "completion": 3}', "message 2 has no text"),
        ('{"prompt": "\\ud800", "completion": "x"}', "lone surrogate"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "where system or user must speak"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "ends with the user"),
        ('{"messages": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}]}', "where assistant must"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path: Path, line: str, message: str) -> None:
    chat = tmp_path / "chat.jsonl"
    chat.write_text(f"{GOOD}\n{line}\n", encoding="utf-8")
    with pytest.raises(OwnlmError) as caught:
        build_conversations(tmp_path / "made", ConversationsConfig(chat=chat))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"\n\n", GOOD.encode(), b"\xff\xfe\x00", f"{GOOD}\n{GOOD}\n".encode()])
def test_files_that_hold_too_little_are_refused(tmp_path: Path, content: bytes) -> None:
    chat = tmp_path / "chat.jsonl"
    chat.write_bytes(content)
    with pytest.raises(OwnlmError):
        build_conversations(tmp_path / "made", ConversationsConfig(chat=chat))
    with pytest.raises(OwnlmError, match="no such file"):
        build_conversations(tmp_path / "made", ConversationsConfig(chat=tmp_path / "absent.jsonl"))
