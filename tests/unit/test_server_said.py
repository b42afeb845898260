"""Thoughts, words and calls in what a model writes: the same however its text is cut."""

import pytest

from ownlm.server.reasoning import ReasoningSplit
from ownlm.server.tool_calls import ToolCallReader

CALL = '<tool_call>\n{"name": "find", "arguments": {"q": "a </tool_call> b", "n": [1, {"x": 2}]}}\n</tool_call>'


@pytest.mark.parametrize("size", [1, 2, 3, 7, 11, 1000])
@pytest.mark.parametrize(
    ("text", "inside", "thought", "said"),
    [
        ("<think>\nHm. <thin\n</think>\n\nSo <b>.", False, "Hm. <thin\n", "So <b>."),
        ("\nHm.</think>\nSo.", True, "Hm.", "So."),
        ("<thinking> is hard", False, "", "<thinking> is hard"),
        ("  <think></think>So", False, "", "So"),
        ("<think>cut of", False, "cut of", ""),
    ],
)
def test_thoughts_and_words(size: int, text: str, inside: bool, thought: str, said: str) -> None:
    split = ReasoningSplit(inside=inside)
    parts = [part for place in range(0, len(text), size) for part in split.push(text[place : place + size])]
    parts += split.finish()
    assert tuple("".join(column) for column in zip(*parts, strict=True)) == (thought, said)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 11, 1000])
@pytest.mark.parametrize(
    ("text", "said", "calls"),
    [
        (f"I look. \n{CALL}\n\n{CALL} ", "I look.", 2),
        (f"{CALL}\nDone. ", "Done.", 1),
        ("a < b \n", "a < b \n", 0),
        ("<tool_call>no call</tool_call>", "<tool_call>no call</tool_call>", 0),
        ("<tool", "<tool", 0),
    ],
)
def test_words_and_calls(size: int, text: str, said: str, calls: int) -> None:
    reader = ToolCallReader()
    told = [one for place in range(0, len(text), size) for one in reader.push(text[place : place + size])]
    told += reader.finish()
    assert "".join(one.text for one in told) == said
    assert [one.name for one in told if one.name] == ["find"] * calls
    for index in range(calls):
        arguments = "".join(one.arguments for one in told if one.index == index)
        assert arguments == '{"q": "a </tool_call> b", "n": [1, {"x": 2}]}'
