"""Is this a conversation one can learn from? In: a line in our form. Out: the same, or mended; or BadLineError.

    system?  ( user  assistant ( tool+ assistant )* )+        where tools follow an answer that calls them

What follows the last answer trains nothing: it is taken off, and said.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ownlm.corpus.conversations.problems import BadLineError

# About 100,000 tokens: nothing wrong with it, but worth a look.
VERY_LONG_CHARACTERS = 400_000
# No tool is described so deep, and what reads it calls itself at each step.
_DEEPEST = 100


def checked(line: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """(line, what was mended or ""). Documents are checked for what no text may hold."""
    for where, text in _texts(line):
        if "\0" in text:
            raise BadLineError("NUL in the text", f"{where} holds the character NUL; write text alone")
        # Half a surrogate pair passes through JSON's \u escapes but cannot be written as UTF-8.
        if not text.isascii() and text != text.encode(errors="replace").decode():
            raise BadLineError(
                "half a character", f"{where} holds half a character (a lone surrogate); write the character itself"
            )
    if "text" in line:
        if not line["text"].strip():
            raise BadLineError("empty", "text is empty")
        return dict(line), ""
    before: Mapping[str, Any] | None = None
    for number, turn in enumerate(line["messages"], start=1):
        if not (turn.get("content") or "").strip() and "tool_calls" not in turn and turn["role"] != "tool":
            raise BadLineError("empty", f"message {number} has no text as its content; give a string that is not empty")
        if kind := _out_of_place(before, turn["role"]):
            after = f"after the {before['role']}" if before is not None else "at the beginning"
            raise BadLineError(kind, f"message {number} is by the {turn['role']}, {after}; put the turns right")
        before = turn
    answers = [number for number, turn in enumerate(line["messages"]) if turn["role"] == "assistant"]
    if not answers:
        raise BadLineError("no answer", f"ends with the {line['messages'][-1]['role']}, and no assistant ever speaks")
    kept = [{**turn, "content": turn["content"] or ""} for turn in line["messages"][: answers[-1] + 1]]
    if all(kept[number].get("train") is False for number in answers):
        raise BadLineError("nothing to train on", "every answer is context only")
    over = len(line["messages"]) - len(kept)
    return {**line, "messages": kept}, f"{over} turn(s) after the last answer are taken off" if over else ""


def all_text(line: Mapping[str, Any]) -> str:
    """Everything that the line says, system turns and tools too."""
    return "\n".join(text for _, text in _texts(line))


def wording(line: Mapping[str, Any]) -> str:
    """What a line says, to tell equal and similar ones: without system turns and tools, which many may share."""
    if "text" in line:
        return str(line["text"])
    said = [turn for turn in line["messages"] if turn["role"] != "system"]
    calls = [json.dumps(turn["tool_calls"], ensure_ascii=False) for turn in said if "tool_calls" in turn]
    return "\n".join([*(turn["content"] for turn in said), *calls])


def _texts(line: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every text of the line, with where it stands."""
    if "text" in line:
        yield "text", line["text"]
        return
    for number, turn in enumerate(line["messages"], start=1):
        yield from _strings(turn, f"message {number}")
    yield from _strings(line.get("tools"), "tools")


def _strings(value: Any, where: str) -> Iterator[tuple[str, str]]:
    waiting = [(value, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > _DEEPEST:
            raise BadLineError("wrong type", f"{where} holds lists or objects more than {_DEEPEST} deep in one another")
        if isinstance(part, str):
            yield where, part
        elif isinstance(part, Mapping):
            waiting += [(inner, depth + 1) for inner in (*part.keys(), *part.values())]
        elif isinstance(part, list):
            waiting += [(inner, depth + 1) for inner in part]


def _out_of_place(before: Mapping[str, Any] | None, role: str) -> str:
    last = before["role"] if before is not None else ""
    if role == "system":
        return "system turn in the middle" if last else ""
    if role == "user":
        # After a call comes its result, and after a result an answer.
        called = last == "assistant" and before is not None and "tool_calls" in before
        return "two questions in a row" if last == "user" else "turn out of place" if last == "tool" or called else ""
    if role == "assistant":
        return "two answers in a row" if last == "assistant" else "" if last in ("user", "tool") else "answer first"
    called = before is not None and (last == "tool" or "tool_calls" in before)
    return "" if called else "turn out of place"
