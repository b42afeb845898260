"""Tool calls in what a model writes, found as it is written: text, a call's name, and its arguments piece by piece.

    "I'll look. <tool_call>{"name": "find", "arguments": {"q": 1}}</tool_call>"
     ──text──▶             ──call "find"──▶       ──arguments──▶ {"q": 1}

Qwen's and Hermes' form, and a bare object where the answer is held to be a call. What only looks like a call (no JSON
object, no name) comes out as the text that it is.
"""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ownlm.engine.grammar import Grammar
from ownlm.server.response_format import for_schema

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_BLANK = " \t\r\n"


@dataclass(frozen=True, kw_only=True)
class Said:
    """A piece of what comes out: text, or of call number `index` its name (once) or a part of its arguments."""

    text: str = ""
    index: int | None = None
    id: str | None = None
    name: str | None = None
    arguments: str = ""


# Words come to an end where a tag begins, and from there the call's schema holds.
_FREE = """\
start: call* REST?
call: begun BLANK form BLANK "</tool_call>"
form: %json {form}
begun[lazy]: /(?s:.*)<tool_call>/
BLANK: /[ \\n]*/
REST: /(?s:.+)/ & ~/(?s:.*<tool_call>.*)/
"""


def forced_grammar(tools: Sequence[Mapping[str, Any]], named: str | None) -> Grammar:
    """An answer that is one call: of the function `named`, or of any."""
    functions = [tool["function"] for tool in tools if named is None or tool["function"]["name"] == named]
    return for_schema(_form([(function["name"], function["parameters"]) for function in functions]), "tools")


def free_grammar(tools: Sequence[Mapping[str, Any]]) -> Grammar:
    """Any answer: but a call in it is of one of the functions, and those that are strict get what they ask for."""
    functions = [tool["function"] for tool in tools]
    form = _form([(one["name"], one["parameters"] if one.get("strict") else {"type": "object"}) for one in functions])
    # As a schema first, whose errors say what is wrong with it.
    return Grammar(kind="lark", text=_FREE.format(form=for_schema(form, "tools").text))


def _form(functions: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A call's schema."""
    forms = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": parameters},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name, parameters in functions
    ]
    return forms[0] if len(forms) == 1 else {"anyOf": forms}


class ToolCallReader:
    """`push` what the model writes, then `finish`. `bare`: the whole answer is one call, without tags."""

    def __init__(self, *, bare: bool = False) -> None:
        self.calls = 0
        self._bare = bare
        self._held = ""
        self._behind_call = False
        self._call: _Call | None = _Call() if bare else None

    def push(self, text: str) -> Iterator[Said]:
        self._held += text
        while self._held:
            if self._call is None:
                if self._behind_call:
                    self._held = self._held.lstrip(_BLANK)
                    self._behind_call = not self._held
                    continue
                place = self._held.find(OPEN)
                if place < 0:
                    # Blanks before a call go with it, wherever the text is cut.
                    end = len(self._held[: len(self._held) - overlap(self._held, OPEN)].rstrip(_BLANK))
                    out, self._held = self._held[:end], self._held[end:]
                    if out:
                        yield from self._text(out)
                    return
                out, self._held = self._held[:place].rstrip(_BLANK), self._held[place + len(OPEN) :]
                if out:
                    yield from self._text(out)
                self._call = _Call()
            call, held, self._held = self._call, self._held, ""
            rest = call.push(held)
            yield from self._told(call)
            if call.failed:
                self._call = None
                yield Said(text=("" if self._bare else OPEN) + call.seen)
                self._bare = False
            elif rest is not None:
                # Behind the object: its closing tag, and whatever follows.
                after = rest.lstrip(_BLANK)
                if after.startswith(CLOSE):
                    self._call, self._held, self._behind_call = None, after[len(CLOSE) :], True
                elif CLOSE.startswith(after) and not self._bare:
                    self._held = ""
                    call.rest = rest
                    return
                else:
                    self._call, self._held = None, after

    def finish(self) -> Iterator[Said]:
        """What was held back for the other half of a tag; a call that was cut stays cut."""
        call, held = self._call, self._held
        self._call, self._held = None, ""
        if call is not None and not call.named:
            yield Said(text=("" if self._bare else OPEN) + call.seen)
        elif held:
            yield from self._text(held)

    def _text(self, text: str) -> Iterator[Said]:
        # Blanks between calls are nobody's words.
        if not self.calls or text.strip():
            yield Said(text=text)

    def _told(self, call: "_Call") -> Iterator[Said]:
        if call.named and not call.told:
            call.told = True
            call.index, self.calls = self.calls, self.calls + 1
            yield Said(index=call.index, id=f"call_{secrets.token_hex(12)}", name=call.name)
        if call.told and (arguments := call.take()):
            yield Said(index=call.index, arguments=arguments)


class _Call:
    """{"name": "...", "arguments": {...}} read character by character; "parameters" is Llama's word for the latter."""

    def __init__(self) -> None:
        self.seen = ""
        self.name: str | None = None
        self.told = self.failed = False
        self.index = 0
        self.rest = ""
        self._arguments = ""
        self._waiting = ""  # arguments that came before the name
        self._depth = 0
        self._in_text = self._escaped = False
        self._key: str | None = None
        self._value_from: int | None = None
        self._text_from = 0
        self._expects_value = False
        self._closed_at = 0  # how much was seen by then

    @property
    def named(self) -> bool:
        return self.name is not None

    def take(self) -> str:
        out, self._arguments = self._arguments, ""
        return out

    def push(self, text: str) -> str | None:
        """What stands behind the object, once it is closed; None before."""
        if self._closed_at:
            rest, self.rest = self.rest + text, ""
            return rest
        for place, letter in enumerate(text):
            self._read(letter)
            if self.failed:
                self.seen += text[place + 1 :]
                return None
            if self._closed_at > 0:
                if not self.named:
                    self.failed = True
                    self.seen += text[place + 1 :]
                    return None
                return text[place + 1 :]
        return None

    def _read(self, letter: str) -> None:
        self.seen += letter
        if self._depth == 0:
            if letter == "{":
                self._depth = 1
            elif letter not in _BLANK:
                self.failed = True
            return
        inside = self._value_from is not None and self._key in ("arguments", "parameters")
        if self._in_text:
            if self._escaped:
                self._escaped = False
            elif letter == "\\":
                self._escaped = True
            elif letter == '"':
                self._in_text = False
                if self._depth == 1:
                    self._text_ended()
            if inside:
                self._arguments += letter
            return
        if letter == '"':
            self._in_text, self._text_from = True, len(self.seen) - 1
            if self._expects_value and self._value_from is None:
                self._value_from = self._text_from
                inside = self._key in ("arguments", "parameters")
        elif letter in "{[":
            if self._depth == 1 and self._expects_value and self._value_from is None:
                self._value_from = len(self.seen) - 1
                inside = self._key in ("arguments", "parameters")
            self._depth += 1
        elif letter in "}]":
            self._depth -= 1
            if self._depth == 0:
                self._closed_at = len(self.seen)
                return
        elif self._depth == 1 and letter == ":":
            self._expects_value, self._value_from = True, None
            return
        elif self._depth == 1 and letter == ",":
            self._expects_value, self._value_from, self._key = False, None, None
            return
        elif self._expects_value and self._value_from is None and letter not in _BLANK:
            self._value_from = len(self.seen) - 1
            inside = self._key in ("arguments", "parameters")
        if inside and (letter not in _BLANK or self._depth > 1):
            self._arguments += letter

    def _text_ended(self) -> None:
        """A text on the object's own level: a key, or the name."""
        try:
            text = json.loads(self.seen[self._text_from :])
        except ValueError:
            self.failed = True
            return
        if not self._expects_value:
            self._key = text
        elif self._key == "name" and self.name is None:
            self.name = text


def overlap(text: str, tag: str) -> int:
    """How many of the last characters may be the beginning of `tag`."""
    return next((size for size in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:size])), 0)
