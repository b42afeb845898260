"""One turn as people write it, in OpenAI's or ShareGPT's form, as one of ours.

In:  {"role" or "from", "content" or "value", ...}. Out: {"role", "content", ...} with one of our four roles.

Kept beside them: name, tool_call_id, tool_calls (their arguments as objects, which templates want), thoughts under
each name in use, and "train": false for an answer that is context only (`weight: 0` in OpenAI's form).
"""

from collections.abc import Mapping
from typing import Any

from ownlm.artefact.read import strict_json
from ownlm.corpus.conversations.problems import BadLineError

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "bing", "bard", "claude"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response"), "tool"),
}
# ShareGPT has a turn of its own for what OpenAI puts into an answer.
_CALLS = ("function_call", "tool_call")
_KEPT = ("name", "tool_call_id", "reasoning_content", "reasoning", "thinking")


def read_turn(turn: Any, number: int) -> dict[str, Any]:
    """The turn in our form; BadLineError says which one is wrong."""
    here = f"message {number}"
    if not isinstance(turn, Mapping):
        raise BadLineError("wrong type", f"{here} is no object with a role and a content")
    found = {key: value for key, value in turn.items() if value is not None}
    said = found.get("role", found.get("from"))
    if said is None:
        raise BadLineError("missing role", f"{here} has no role")
    content = found.get("content", found.get("value"))
    if isinstance(said, str) and said.lower() in _CALLS:
        return {"role": "assistant", "content": "", "tool_calls": _written_calls(content, here)}
    role = ROLES.get(said.lower()) if isinstance(said, str) else None
    if role is None:
        raise BadLineError("unknown role", f"{here} has the role {said!r:.60}; use one of {', '.join(ROLES)}")
    read: dict[str, Any] = {"role": role, "content": _text(content, here)}
    read.update({key: found[key] for key in _KEPT if key in found})
    if any(not isinstance(value, str) for value in read.values() if value is not None):
        raise BadLineError("wrong type", f"{here} has a name or thoughts that are no text")
    if role == "assistant":
        calls = found.get("tool_calls") or ([found["function_call"]] if found.get("function_call") else None)
        if calls:
            read["tool_calls"] = _calls(calls, here)
            read["content"] = read["content"] or ""
        if _is_context(found, here):
            read["train"] = False
    return read


def _text(content: Any, here: str) -> str | None:
    """The words of a turn; None where it has none. Parts of text are joined."""
    if isinstance(content, list):
        given = [part.get("text") if isinstance(part, Mapping) else part for part in content]
        parts = [part for part in given if isinstance(part, str)]
        if len(parts) < len(given):
            raise BadLineError("wrong type", f"{here} holds parts that are no text, such as images")
        return "".join(parts)
    if content is not None and not isinstance(content, str):
        raise BadLineError("wrong type", f"{here} has no text as its content, but a {type(content).__name__}")
    return content


def _is_context(found: Mapping[str, Any], here: str) -> bool:
    weight, train = found.get("weight", 1), found.get("train", True)
    if weight not in (0, 1) or not isinstance(train, bool):
        raise BadLineError("wrong type", f"{here} has a weight other than 0 and 1, or a train that is no yes or no")
    return weight == 0 or not train


def _written_calls(text: Any, here: str) -> list[Any]:
    try:
        calls = strict_json(text)
    except (ValueError, TypeError, RecursionError):
        raise BadLineError("wrong type", f"{here} calls a function by a text that is not JSON") from None
    return _calls(calls if isinstance(calls, list) else [calls], here)


def _calls(calls: Any, here: str) -> list[Any]:
    if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
        raise BadLineError("wrong type", f"{here} has tool_calls that are no list of objects")
    read = []
    for call in calls:
        function = call.get("function", call)
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise BadLineError("wrong type", f"{here} has a tool call without a function's name")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = strict_json(arguments)
            except (ValueError, RecursionError):
                raise BadLineError("wrong type", f"{here} calls {function['name']!r} with what is not JSON") from None
        envelope = {key: value for key, value in call.items() if key == "id" and value is not None}
        read.append({**envelope, "type": "function", "function": {"name": function["name"], "arguments": arguments}})
    return read
