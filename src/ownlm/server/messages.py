"""A client's messages into the prompt's ids: by the model's own chat template, tools too where it knows them.

OpenAI's messages come in; other dialects turn theirs into these first. Where a template has no place for tools they
are told in a system message, calls are written in the answers' text, and results come as a user's words, all in the
form that Qwen's and Hermes' models use: <tool_call>{"name": ..., "arguments": {...}}</tool_call>.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.opened import ModelFiles
from ownlm.server.errors import bad
from ownlm.tokenizer.chat import ChatTemplate

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_FIELDS = {
    "system": ("role", "content", "name"),
    "user": ("role", "content", "name"),
    "assistant": ("role", "content", "name", "tool_calls", "refusal", "reasoning", "reasoning_content", "audio"),
    "tool": ("role", "content", "tool_call_id", "name"),
}
# What chat_template_kwargs may set: switches, nothing that a template would take for a message or a token.
_SWITCHES = ("enable_thinking", "thinking", "reasoning_effort", "preserve_thinking", "date_string")
_TOOL = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_TOLD = """\
You may call one or more functions. Here are their signatures:
{tools}
To call one, write its name and arguments as JSON between tags, and nothing after it:
<tool_call>
{{"name": "the function's name", "arguments": {{"an argument": "its value"}}}}
</tool_call>"""


def prompt_ids(
    model: ModelFiles,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    variables: Mapping[str, Any] | None = None,
    most_messages: int = 10_000,
) -> list[int]:
    """The conversation with an answer's header open at its end. ApiError names the message that is wrong."""
    if model.template is None:
        raise bad("this model was never tuned to chat; ask it at /v1/completions", "model", code="model_not_supported")
    if not messages:
        raise bad("messages must hold at least one message", "messages")
    if len(messages) > most_messages:
        raise bad(f"messages has {len(messages)} messages, at most {most_messages} are read", "messages")
    plain = [_message(message, f"messages[{number}]") for number, message in enumerate(messages)]
    for name in variables or ():
        if name not in _SWITCHES:
            raise bad(f"chat_template_kwargs.{name} is not supported; there are {', '.join(_SWITCHES)}", name)
    template = model.template
    try:
        if isinstance(template, ChatTemplate) or not knows_tools(model):
            told = _with_tools_told(plain, tools)
            if isinstance(template, ChatTemplate):
                return template.render(told, add_generation_prompt=True).ids
            return template.render(told, add_generation_prompt=True, **dict(variables or {})).ids
        return template.render(
            plain, add_generation_prompt=True, tools=list(tools) or None, **dict(variables or {})
        ).ids
    except OwnlmError as error:
        raise bad(str(error), "messages") from error


def knows_tools(model: ModelFiles) -> bool:
    """Does the model's own template have a place for tools?"""
    jinja = None if model.template is None else model.template.jinja
    return jinja is not None and re.search(r"\btools\b", jinja) is not None


def check_tools(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """[{"type": "function", "function": {"name", "description", "parameters", "strict"}}], or ApiError."""
    checked: list[dict[str, Any]] = []
    for number, tool in enumerate(tools):
        where = f"tools[{number}]"
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, Mapping):
            raise bad(f'{where} must be {{"type": "function", "function": {{...}}}}', where)
        checked.append(function_tool(function, f"{where}.function", others=checked))
    return checked


def function_tool(function: Mapping[str, Any], where: str, *, others: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """OpenAI's form of {"name", "description", "parameters", "strict"}; no two of a request have one name."""
    name, parameters = function.get("name"), function.get("parameters", {"type": "object", "properties": {}})
    if not isinstance(name, str) or not _TOOL.fullmatch(name):
        raise bad(f"{where}.name must be 1 to 64 letters, digits, - . and _", f"{where}.name")
    if not isinstance(parameters, Mapping):
        raise bad(f"{where}.parameters must be a JSON schema", f"{where}.parameters")
    if any(name == one["function"]["name"] for one in others):
        raise bad(f"{where}.name: there are two functions called {name}", f"{where}.name")
    kept = {key: function[key] for key in ("name", "description", "strict") if key in function}
    return {"type": "function", "function": {**kept, "parameters": dict(parameters)}}


def text_of(content: Any, where: str) -> str:
    """A message's content, a text or parts of text."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise bad(f"{where} must be text or a list of parts", where)
    texts = []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        text = part.get("text") if isinstance(part, Mapping) else None
        if kind == "refusal":
            text = part.get("refusal")
        elif kind not in ("text", "input_text", "output_text"):
            raise bad(f"{where}[{number}]: content of type {kind!r} is not supported; only text is", where)
        if not isinstance(text, str):
            raise bad(f"{where}[{number}].text must be a text", where)
        texts.append(text)
    return "\n".join(texts)


def _message(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise bad(f"{where}.role must be one of {', '.join(_ROLES)}", f"{where}.role")
    role = _ROLES[role]
    for name, value in message.items():
        if value is not None and (name not in _FIELDS[role] or name == "audio"):
            raise bad(f"{where}.{name} is not supported in a message of {role}", f"{where}.{name}")
    if role in ("system", "user", "tool") and message.get("content") is None:
        raise bad(f"{where}.content is missing", f"{where}.content")
    plain: dict[str, Any] = {"role": role, "content": text_of(message.get("content"), f"{where}.content")}
    if role == "assistant":
        if calls := message.get("tool_calls"):
            if not isinstance(calls, list):
                raise bad(f"{where}.tool_calls must be a list", f"{where}.tool_calls")
            plain["tool_calls"] = [_call(call, f"{where}.tool_calls[{place}]") for place, call in enumerate(calls)]
        for name in ("reasoning_content", "reasoning"):
            if isinstance(thought := message.get(name), str):
                plain["reasoning_content"] = thought
    for name in ("name", "tool_call_id"):
        if (value := message.get(name)) is not None:
            if not isinstance(value, str):
                raise bad(f"{where}.{name} must be a text", f"{where}.{name}")
            plain[name] = value
    return plain


def _call(call: Any, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise bad(f'{where} must be {{"id", "type": "function", "function": {{"name", "arguments"}}}}', where)
    written = function.get("arguments", "")
    try:
        arguments = json.loads(written or "{}") if isinstance(written, str) else written
    except (ValueError, RecursionError):
        # A model may have written it; a template shows it as it stands.
        arguments = written
    return {
        "id": str(call.get("id", "")),
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }


def _with_tools_told(messages: list[dict[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for message in messages:
        content = message["content"]
        if message["role"] == "tool":
            content = f"<tool_response>\n{content}\n</tool_response>"
            found.append({"role": "user", "content": content})
            continue
        for call in message.get("tool_calls", ()):
            written = json.dumps(call["function"], ensure_ascii=False)
            content += f"{chr(10) if content else ''}<tool_call>\n{written}\n</tool_call>"
        found.append({"role": message["role"], "content": content})
    if tools:
        listed = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
        told = _TOLD.format(tools=listed)
        if found[0]["role"] == "system":
            found[0] = {"role": "system", "content": f"{found[0]['content']}\n\n{told}"}
        else:
            found.insert(0, {"role": "system", "content": told})
    return found
