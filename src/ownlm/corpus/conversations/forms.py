"""The forms in which people keep conversations, told line by line by the fields that a line has.

In:  one line's JSON. Out: {"messages": [...], "tools"?: [...]} or {"text": "..."}; or BadLineError.

    messages                         OpenAI's; weight 0 on an answer, or "train": false: context only
    conversations                    ShareGPT's: from and value
    instruction, input?, output      Alpaca's; history? holds earlier pairs
    prompt, completion               also question, answer and prompt, response; lists of messages too (TRL's form)
    text                             a document, for going on with pretraining

The first row whose fields a line has is its form. `system` beside any but the last stands before the talk; `tools`
(or `functions`) may be a list or JSON in a string.
"""

from collections.abc import Mapping
from typing import Any

from ownlm.artefact.read import strict_json
from ownlm.corpus.conversations.problems import BadLineError
from ownlm.corpus.conversations.turn import read_turn

PAIRS = (("prompt", "completion"), ("prompt", "response"), ("question", "answer"))
FORMS = 'give {"messages": [...]}, {"prompt": "...", "completion": "..."} or another form of docs/finetuning.md'


def read_form(entry: object) -> dict[str, Any]:
    """The line in our form. What its turns say is not looked at here (check.py)."""
    if not isinstance(entry, Mapping):
        raise BadLineError("no known form", f"is no JSON object; {FORMS}")
    found = {key: value for key, value in entry.items() if value is not None}
    turns = _turns(found)
    if turns is None:
        if "text" not in found:
            raise BadLineError(
                "no known form", f"has neither messages nor another known form's fields, but {_named(found)}; {FORMS}"
            )
        if not isinstance(found["text"], str):
            raise BadLineError("wrong type", "text is no string")
        return {"text": found["text"]}
    messages = [read_turn(turn, number) for number, turn in enumerate(turns, start=1)]
    if system := found.get("system"):
        before = read_turn(_turn("system", system), 0)
        messages = messages if messages[:1] == [before] else [before, *messages]
    if not messages:
        raise BadLineError("wrong type", "holds lists without a turn")
    line: dict[str, Any] = {"messages": messages}
    if tools := _tools(found.get("tools") or found.get("functions")):
        line["tools"] = tools
    return line


def _turns(found: Mapping[str, Any]) -> list[Any] | None:
    """The turns as they stand in the line, in whatever form each is; None where it has none."""
    for key in ("messages", "conversations"):
        if key in found:
            if not isinstance(found[key], list) or not found[key]:
                raise BadLineError("wrong type", f"{key} is no list of turns")
            return list(found[key])
    if "instruction" in found and "output" in found:
        more = found.get("input", "")
        question = _joined(found["instruction"], more) if more else found["instruction"]
        return [*_history(found.get("history")), _turn("user", question), _turn("assistant", found["output"])]
    for asked, answered in PAIRS:
        if asked in found and answered in found:
            return [*_side(found[asked], "user"), *_side(found[answered], "assistant")]
    return None


def _side(value: Any, role: str) -> list[Any]:
    """One side of a pair: a text, or messages; those of a prompt are context, its answers too."""
    if not isinstance(value, list):
        return [_turn(role, value)]
    if role != "user":
        return value
    return [{**turn, "train": False} if isinstance(turn, Mapping) else turn for turn in value]


def _history(pairs: Any) -> list[Any]:
    turns = []
    for pair in pairs or ():
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadLineError("wrong type", "history is no list of [question, answer] pairs")
        turns += [_turn("user", pair[0]), _turn("assistant", pair[1])]
    return turns


def _joined(instruction: Any, more: Any) -> Any:
    if not isinstance(instruction, str) or not isinstance(more, str):
        raise BadLineError("wrong type", "instruction or input is no string")
    return f"{instruction}\n\n{more}"


def _turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def _tools(given: Any) -> list[Any]:
    if isinstance(given, str):
        try:
            given = strict_json(given) if given.strip() else []
        except (ValueError, RecursionError):
            raise BadLineError("wrong type", "tools is a string that is not JSON") from None
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(tool, Mapping) for tool in given):
        raise BadLineError("wrong type", "tools is no list of objects")
    # Templates want OpenAI's envelope around a function.
    return [
        {"type": "function", "function": tool} if "name" in tool and not tool.keys() & {"type", "function"} else tool
        for tool in given
    ]


def _named(found: Mapping[str, Any]) -> str:
    names = ", ".join(map(str, list(found)[:6]))
    return f"{names} ..." if len(found) > 6 else names or "no fields"
