"""The tools of /v1/responses, which are flat, and the choice among them, in the form that chat completions have.

{"type": "function", "name", "parameters"}  ─▶  {"type": "function", "function": {"name", "parameters"}}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ownlm.server.asking import ToolChoice
from ownlm.server.errors import ApiError, bad
from ownlm.server.messages import check_tools

# Agents offer these to every server, OpenAI's own or not. A model here is told of functions alone.
_LEFT_OUT = (
    *("custom", "web_search", "web_search_preview", "web_search_2025_08_26", "web_search_preview_2025_03_11"),
    *("file_search", "code_interpreter", "computer", "computer_use_preview", "image_generation"),
    *("local_shell", "shell", "apply_patch", "mcp", "namespace", "tool_search"),
)


@dataclass(frozen=True, kw_only=True)
class Tools:
    """`functions`: all that were given; `choice`: those that the model hears of, and what it must do with them."""

    functions: list[dict[str, Any]]
    choice: ToolChoice


def read_tools(tools: Sequence[Mapping[str, Any]] | None, choice: Any, *, parallel: bool | None) -> Tools:
    """ApiError names the tool that is wrong, or why the choice cannot be had."""
    functions = _functions(tools or ())
    return Tools(functions=functions, choice=replace(_choice(functions, choice), parallel=parallel is not False))


def _functions(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    nested = []
    for number, tool in enumerate(tools):
        kind = tool.get("type")
        if kind in _LEFT_OUT:
            continue
        if kind != "function":
            raise bad(f"tools[{number}] has the type {str(kind)[:80]!r}, which is not known", f"tools[{number}].type")
        for field, value in tool.items():
            if field not in ("type", "name", "description", "parameters", "strict") and value not in (None, False):
                raise bad(f"tools[{number}].{field[:80]} is not supported", f"tools[{number}].{field[:80]}")
        nested.append({"type": "function", "function": {key: tool[key] for key in tool if tool[key] is not None}})
    try:
        return check_tools(nested)
    except ApiError as error:
        raise in_our_names(error) from error


def _choice(functions: list[dict[str, Any]], asked: Any) -> ToolChoice:
    if asked in (None, "auto"):
        return ToolChoice(tools=functions)
    if asked == "none":
        return ToolChoice()
    kind = asked.get("type") if isinstance(asked, dict) else None
    must, told = asked == "required", functions
    if kind == "allowed_tools":
        names = _allowed(asked)
        told = [tool for tool in functions if tool["function"]["name"] in names]
        if asked.get("mode") == "auto":
            return ToolChoice(tools=told)
        must = asked.get("mode") == "required"
    if must:
        if not told:
            raise bad("tool_choice needs a function among tools", "tool_choice")
        return ToolChoice(tools=told, forced=True)
    name = asked.get("name") if kind == "function" else None
    if not isinstance(name, str):
        raise bad(
            'tool_choice must be none, auto, required, {"type": "function", "name": "..."}, or allowed_tools',
            "tool_choice",
        )
    choice = ToolChoice(tools=told, forced=True, named=name)
    if not choice.knows(name):
        raise bad(f"tool_choice names {name[:64]!r}, which is no function among tools", "tool_choice")
    return choice


def _allowed(choice: Mapping[str, Any]) -> set[str]:
    listed = choice.get("tools")
    if not isinstance(listed, list) or not all(isinstance(tool, Mapping) for tool in listed):
        raise bad("tool_choice.tools must be a list of tools", "tool_choice.tools")
    return {str(tool.get("name")) for tool in listed if tool.get("type") == "function"}


def flat(function: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "function", "description": None, "strict": None, **function}


def in_our_names(error: ApiError) -> ApiError:
    """What chat completions call messages is input here, and a function's fields stand in the tool itself."""
    message, param = error.message.replace("].function", "]"), error.param
    if param is not None:
        param = "input" if param.startswith("messages") else param.replace("].function", "]")
    return ApiError(status=error.status, message=message, param=param, code=error.code, retry_after=error.retry_after)
