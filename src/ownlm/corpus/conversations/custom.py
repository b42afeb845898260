"""The user's own conversations: a .jsonl file, one conversation a line.

In:  {"messages": [{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]} (OpenAI's form), or
     {"prompt": ..., "completion": ...}. Out: conversations, parted into training and validation.

Any line that does not fit is an error with its number: a silently dropped line would be silently unlearnt.
"""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ownlm.corpus.conversations.turns import Message
from ownlm.errors import OwnlmError

VALIDATION_SHARE = 0.05
FORMS = 'give {"messages": [...]} or {"prompt": "...", "completion": "..."} on every line'


def read_chat(path: Path) -> list[list[Message]]:
    """Every conversation of the file; OwnlmError names the first line that is none."""
    if not path.is_file():
        raise OwnlmError(f"no such file: {path}; check the spelling of --chat")
    conversations = list(_read_lines(path))
    if len(conversations) < 2:
        raise OwnlmError(f"{path} holds {len(conversations)} conversations; give at least two, better hundreds")
    return conversations


def hold_out(conversations: Sequence[list[Message]], seed: int) -> tuple[list[list[Message]], list[list[Message]]]:
    """(training, validation): one in twenty is held out, at least one; equal ones stay on one side."""
    distinct: dict[str, list[list[Message]]] = {}
    for conversation in conversations:
        distinct.setdefault(json.dumps(conversation), []).append(conversation)
    if len(distinct) < 2:
        raise OwnlmError("all conversations of --chat are the same; give at least two different ones")
    keys = list(distinct)
    random.Random(seed).shuffle(keys)
    count = max(1, round(len(keys) * VALIDATION_SHARE))
    training = [conversation for key in keys[count:] for conversation in distinct[key]]
    random.Random(seed + 1).shuffle(training)
    return training, [distinct[key][0] for key in keys[:count]]


def _read_lines(path: Path) -> Iterator[list[Message]]:
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _conversation(line, f"{path}:{number}")
    except UnicodeDecodeError:
        raise OwnlmError(
            f"{path}:{number + 1} or a line soon after is not UTF-8 text; save the file as UTF-8"
        ) from None
    except OSError as error:
        raise OwnlmError(f"cannot read {path}: {error.strerror}; check its permissions") from error


def _conversation(line: str, where: str) -> list[Message]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise OwnlmError(f"{where} is not JSON ({error}); {FORMS}") from None
    if not isinstance(entry, dict):
        raise OwnlmError(f"{where} is no JSON object; {FORMS}")
    if "messages" in entry:
        return _checked(entry["messages"], where)
    if "prompt" in entry and "completion" in entry:
        turns = [{"role": "user", "content": entry["prompt"]}, {"role": "assistant", "content": entry["completion"]}]
        return _checked(turns, where)
    raise OwnlmError(f"{where} has neither messages nor prompt and completion; {FORMS}")


def _checked(turns: Any, where: str) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        raise OwnlmError(f"{where}: messages is no list of turns; {FORMS}")
    conversation: list[Message] = []
    for place, turn in enumerate(turns, start=1):
        here = f"{where}: message {place}"
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, dict) else (None, None)
        if not isinstance(content, str) or not content.strip():
            raise OwnlmError(f"{here} has no text as its content; give a string that is not empty")
        # Half a surrogate pair passes through JSON's \u escapes but cannot be written as UTF-8.
        if content != content.encode(errors="replace").decode():
            raise OwnlmError(f"{here} holds half a character (a lone surrogate); write the character itself")
        expected = _expected_roles(conversation)
        if role not in expected:
            raise OwnlmError(f"{here} is by {role!r} where {' or '.join(expected)} must speak; put the turns right")
        conversation.append({"role": str(role), "content": content})
    if conversation[-1]["role"] != "assistant":
        raise OwnlmError(f"{where} ends with the {conversation[-1]['role']}; the assistant must have the last word")
    return conversation


def _expected_roles(before: list[Message]) -> tuple[str, ...]:
    if not before:
        return ("system", "user")
    return ("assistant",) if before[-1]["role"] == "user" else ("user",)
