"""The tools of /v1/responses, which are flat, and the choice among them, in the form that chat completions have.

{"type": "function", "name", "parameters"}  ─▶  {"type": "function", "function": {"name", "parameters"}}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
    """`functions`: all that were given; `told`: those that the model hears of."""

    functions: list[dict[str, Any]]
    told: list[dict[str, Any]]
    forced: bool = False
    named: str | None = None


def read_tools(tools: Sequence[Mapping[str, Any]] | None, choice: Any) -> Tools:
    """The functions that the model is told of, and whether it must call one."""
    nested = []
    for number, tool in enumerate(tools or ()):
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
        functions = told = check_tools(nested)
    except ApiError as error:
        raise in_our_names(error) from error
    if choice in (None, "auto"):
        return Tools(functions=functions, told=told)
    if choice == "none":
        return Tools(functions=functions, told=[])
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        names = _allowed(choice)
        told = [tool for tool in functions if tool["function"]["name"] in names]
        if choice.get("mode") == "auto":
            return Tools(functions=functions, told=told)
        must = choice.get("mode") == "required"
    else:
        must = choice == "required"
    if must:
        if not told:
            raise bad("tool_choice needs a function among tools", "tool_choice")
        return Tools(functions=functions, told=told, forced=True)
    name = choice.get("name") if isinstance(choice, dict) and choice.get("type") == "function" else None
    if not isinstance(name, str):
        raise bad(
            'tool_choice must be none, auto, required, {"type": "function", "name": "..."}, or allowed_tools',
            "tool_choice",
        )
    if all(name != tool["function"]["name"] for tool in told):
        raise bad(f"tool_choice names {name[:64]!r}, which is no function among tools", "tool_choice")
    return Tools(functions=functions, told=told, forced=True, named=name)


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
