"""Anthropic's messages and tools into OpenAI's, which the rest of the server reads.

    system, user [tool_result, text], assistant [thinking, text, tool_use]
                                  │
    system, tool, user, assistant with reasoning_content and tool_calls

A message of several blocks becomes one message, or several where results of tools stand among the text; neighbours of
one role become one. Nothing is moved to another place: a prompt that only grows finds its beginning computed.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ownlm.server.errors import bad
from ownlm.server.messages import function_tool

Blocks = str | Sequence[Mapping[str, Any]]

# What a block may hold; cache_control changes no answer, and a thought's signature is ours.
_FIELDS = {
    "text": ("text", "citations"),
    "tool_use": ("id", "name", "input", "caller"),
    "tool_result": ("tool_use_id", "content", "is_error"),
    "thinking": ("thinking", "signature"),
}
_TEXTS = {"text": ("text",), "tool_use": ("id", "name"), "tool_result": ("tool_use_id",), "thinking": ("thinking",)}
_ROLES = {"user": ("text", "tool_result"), "assistant": ("text", "tool_use", "thinking"), "system": ("text",)}
_TOOL_FIELDS = ("name", "description", "input_schema", "type", "strict", "cache_control", "eager_input_streaming")
# Claude Code begins with a line of numbers for the bill: other ones each time, so that nothing would be found computed.
_BILLING = "x-anthropic-billing-header:"


def to_openai(messages: Sequence[Mapping[str, Any]], system: Blocks | None) -> list[dict[str, Any]]:
    """ApiError names the message and the block that is wrong."""
    found: list[dict[str, Any]] = []
    if system is not None and (told := _system(system)):
        found.append({"role": "system", "content": told})
    names: dict[str, str] = {}  # of the tools that were called, by the call's id
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        role = message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise bad(f"{where}.role must be one of {', '.join(_ROLES)}", f"{where}.role")
        for name in message:
            if name not in ("role", "content"):
                raise bad(f"{where}.{name} is not supported", f"{where}.{name}")
        blocks = _blocks(message.get("content"), f"{where}.content", _ROLES[role])
        made = [_assistant(blocks, names)] if role == "assistant" else _others(role, blocks, names, where)
        for one in made:
            if found and one["role"] == found[-1]["role"] != "tool":
                found[-1] = _joined(found[-1], one)
            else:
                found.append(one)
    return found


def functions(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tools of the client's own as OpenAI's functions."""
    found: list[dict[str, Any]] = []
    for number, tool in enumerate(tools):
        where = f"tools[{number}]"
        if (kind := tool.get("type")) not in (None, "custom"):
            raise bad(f"{where}.type {_shown(kind)} is not supported; give tools of your own with input_schema", where)
        for name, value in tool.items():
            if name not in _TOOL_FIELDS and value is not None:
                raise bad(f"{where}.{name[:64]} is not supported", where)
        if not isinstance(schema := tool.get("input_schema"), Mapping):
            raise bad(f"{where}.input_schema must be a JSON schema", where)
        kept = {name: tool[name] for name in ("name", "description", "strict") if tool.get(name) is not None}
        found.append(function_tool({**kept, "parameters": schema}, where, others=found))
    return found


def _system(system: Blocks) -> str:
    texts = [block["text"] for block in _blocks(system, "system", ("text",))]
    kept = [text.partition("\n")[2] if text.startswith(_BILLING) else text for text in texts]
    return "\n".join(text for text in kept if text)


def _blocks(content: Any, where: str, kinds: Sequence[str]) -> list[Mapping[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise bad(f"{where} must be text or a list of blocks", where)
    for number, block in enumerate(content):
        place = f"{where}[{number}]"
        kind = str(block.get("type")) if isinstance(block, Mapping) else "none"
        if kind not in kinds:
            raise bad(
                f"{place}: a block of type {_shown(kind)} is not supported here; {' and '.join(kinds)} are", where
            )
        for name, value in block.items():
            if name not in ("type", "cache_control", *_FIELDS[kind]) and value is not None:
                raise bad(f"{place}.{name[:64]} is not supported", where)
        for name in _TEXTS[kind]:
            if not isinstance(block.get(name), str):
                raise bad(f"{place}.{name} must be a text", where)
        if kind == "text" and block.get("citations"):
            raise bad(f"{place}.citations is not supported", where)
        if kind == "tool_use" and not isinstance(block.get("input"), Mapping):
            raise bad(f"{place}.input must be an object", where)
        if kind == "tool_result":
            _check_result(block, place, where)
    return content


def _check_result(block: Mapping[str, Any], place: str, where: str) -> None:
    if not isinstance(block.get("is_error", False), bool | None):
        raise bad(f"{place}.is_error must be true or false", where)
    if block.get("content") is not None:
        _blocks(block["content"], f"{place}.content", ("text",))


def _assistant(blocks: Sequence[Mapping[str, Any]], names: dict[str, str]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": _text(blocks)}
    if thoughts := [block["thinking"] for block in blocks if block["type"] == "thinking"]:
        message["reasoning_content"] = "\n".join(thoughts)
    calls = []
    for block in blocks:
        if block["type"] == "tool_use":
            names[block["id"]] = block["name"]
            function = {"name": block["name"], "arguments": json.dumps(block["input"], ensure_ascii=False)}
            calls.append({"id": block["id"], "type": "function", "function": function})
    return message | ({"tool_calls": calls} if calls else {})


def _others(
    role: str, blocks: Sequence[Mapping[str, Any]], names: Mapping[str, str], where: str
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for block in blocks:
        if block["type"] == "text":
            one = {"role": role, "content": block["text"]}
            found = [*found[:-1], _joined(found[-1], one)] if found and found[-1]["role"] == role else [*found, one]
            continue
        called = block["tool_use_id"]
        if called not in names:
            raise bad(f"{where}: no tool_use before it has the tool_use_id {_shown(called)}", where)
        content = block.get("content") or ""
        text = content if isinstance(content, str) else _text(content)
        # OpenAI's messages have no word for it.
        text = f"Error: {text}" if block.get("is_error") else text
        found.append({"role": "tool", "tool_call_id": called, "name": names[called], "content": text})
    return found or [{"role": role, "content": ""}]


def _joined(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    found = {**first, **then}
    for name in ("content", "reasoning_content"):
        if parts := [one[name] for one in (first, then) if one.get(name)]:
            found[name] = "\n".join(parts)
    if calls := [*first.get("tool_calls", ()), *then.get("tool_calls", ())]:
        found["tool_calls"] = calls
    return found


def _text(blocks: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(block["text"] for block in blocks if block["type"] == "text")


def _shown(value: Any) -> str:
    return repr(str(value)[:64])
