"""The items of /v1/responses: what a client sends into items as they are kept, and those into a chat's messages.

    "Hello"                    ─▶  {"type": "message", "role": "user", "content": [{"type": "input_text", ...}], "id"}
    [reasoning, function_call, function_call, function_call_output]
                               ─▶  [assistant with reasoning_content and two tool_calls, tool]

An item of an answer has its answer's id within its own, so that a reference to it says where it stands.
"""

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ownlm.server.errors import ApiError, bad
from ownlm.server.messages import text_of

# Of which answer, and which of its items.
_OF_ANSWER = re.compile(r"(?:msg|fc|rs)_([0-9a-f]{32})([0-9a-f]{4})")
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_SPEAKERS = ("user", "assistant", "system", "developer")
_PREFIX = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
_FIELDS = {
    "message": ("role", "content", "phase"),
    "function_call": ("call_id", "name", "arguments", "parsed_arguments"),
    "function_call_output": ("call_id", "output"),
    "reasoning": ("summary", "content", "encrypted_content"),
}


def item_id(kind: str, response_id: str, place: int) -> str:
    """Of an answer's own item."""
    return f"{_PREFIX[kind]}_{response_id.removeprefix('resp_')}{place:04x}"


def owner_of(item: str) -> tuple[str, int] | None:
    """An answer's id and the item's place in it; None where the item is no answer's."""
    found = _OF_ANSWER.fullmatch(item)
    return None if found is None else (f"resp_{found[1]}", int(found[2], 16))


def references(given: str | Sequence[Mapping[str, Any]]) -> list[str]:
    """The items that are only named, and stand in what is kept."""
    if isinstance(given, str):
        return []
    return [str(item.get("id"))[:128] for item in given if item.get("type") == "item_reference"]


def read_items(
    given: str | Sequence[Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Checked, each with an id. `found`: what references stand for. ApiError names the item that is wrong."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    items = []
    for number, item in enumerate(given):
        where = f"input[{number}]"
        if item.get("type") == "item_reference":
            kept = (found or {}).get(str(item.get("id"))[:128])
            if kept is None:
                raise ApiError(status=404, message=f"{where}: there is no such item here", param=f"{where}.id")
            items.append(dict(kept))
            continue
        kind = item.get("type") or "message"
        if not isinstance(kind, str) or kind not in _FIELDS:
            raise bad(f"{where} has the type {str(kind)[:80]!r}, which is not supported", f"{where}.type")
        for name, value in item.items():
            if value is not None and name not in ("type", "id", "status", *_FIELDS[kind]):
                raise bad(f"{where}.{name[:80]} is not supported", f"{where}.{name[:80]}")
        id = item.get("id")
        if id is not None and not (isinstance(id, str) and _ID.fullmatch(id)):
            raise bad(f"{where}.id must be up to 128 letters, digits, and . _ : -", f"{where}.id")
        read = _READERS[kind](item, where)
        status = item.get("status") if item.get("status") in ("in_progress", "incomplete") else "completed"
        items.append({"type": kind, "id": id or f"{_PREFIX[kind]}_{secrets.token_hex(16)}", **read, "status": status})
    return items


def messages_of(instructions: str | None, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A chat's messages. All that leads the conversation is one system message: templates know no second."""
    leading = [] if not instructions else [instructions]
    messages = list(_messages(items))
    first = next((place for place, one in enumerate(messages) if one["role"] != "system"), len(messages))
    leading += [one["content"] for one in messages[:first]]
    system = [{"role": "system", "content": "\n\n".join(leading)}] if leading else []
    return system + messages[first:]


def _messages(items: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    thought = ""
    turn: dict[str, Any] | None = None  # the assistant's, which words and calls share
    for item in items:
        kind = item["type"]
        if kind == "reasoning":
            if turn is not None:
                yield turn
                turn = None
            thought += "".join(part["text"] for part in item.get("content") or ())
            continue
        if kind == "function_call":
            turn = turn or {"role": "assistant", "content": ""}
            function = {"name": item["name"], "arguments": item["arguments"]}
            turn.setdefault("tool_calls", []).append({"id": item["call_id"], "type": "function", "function": function})
        elif kind == "message" and item["role"] == "assistant":
            if turn is not None:
                yield turn
            turn = {"role": "assistant", "content": text_of(item["content"], "content")}
        else:
            if turn is not None:
                yield turn
            thought, turn = "", None
            if kind == "message":
                role = "user" if item["role"] == "user" else "system"
                yield {"role": role, "content": text_of(item["content"], "content")}
            else:
                yield {"role": "tool", "tool_call_id": item["call_id"], "content": text_of(item["output"], "output")}
            continue
        if thought:
            turn["reasoning_content"], thought = turn.get("reasoning_content", "") + thought, ""
    if turn is not None:
        yield turn


def _message(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    role, content = item.get("role"), item.get("content")
    if role not in _SPEAKERS:
        raise bad(f"{where}.role must be one of {', '.join(_SPEAKERS)}", f"{where}.role")
    if content is None:
        raise bad(f"{where}.content is missing", f"{where}.content")
    text_of(content, f"{where}.content")
    kind = "output_text" if role == "assistant" else "input_text"
    more: dict[str, Any] = {"annotations": []} if role == "assistant" else {}
    parts = [{"type": kind, "text": content, **more}] if isinstance(content, str) else [_part(part) for part in content]
    return {"role": role, "content": parts}


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["type"] == "refusal":
        return {"type": "refusal", "refusal": part["refusal"]}
    more: dict[str, Any] = {"annotations": []} if part["type"] == "output_text" else {}
    return {"type": part["type"], "text": part["text"], **more}


def _function_call(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    return {name: _text(item, name, where) for name in ("call_id", "name", "arguments")}


def _function_call_output(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    output = item.get("output")
    if output is None:
        raise bad(f"{where}.output is missing", f"{where}.output")
    text_of(output, f"{where}.output")
    kept = output if isinstance(output, str) else [_part(part) for part in output]
    return {"call_id": _text(item, "call_id", where), "output": kept}


def _reasoning(item: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A summary is no thought, and what is encrypted is none of ours: neither is told to the model."""
    found: dict[str, Any] = {"summary": [], "content": []}
    for name, kind in (("summary", "summary_text"), ("content", "reasoning_text")):
        parts = item.get(name) or []
        if not isinstance(parts, list):
            raise bad(f"{where}.{name} must be a list of parts", f"{where}.{name}")
        for part in parts:
            text = part.get("text") if isinstance(part, Mapping) and part.get("type") == kind else None
            if not isinstance(text, str):
                raise bad(f"{where}.{name} must hold parts of type {kind}", f"{where}.{name}")
            found[name].append({"type": kind, "text": text})
    return found


_READERS = {
    "message": _message,
    "function_call": _function_call,
    "function_call_output": _function_call_output,
    "reasoning": _reasoning,
}


def _text(item: Mapping[str, Any], name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise bad(f"{where}.{name} must be a text", f"{where}.{name}")
    return value
