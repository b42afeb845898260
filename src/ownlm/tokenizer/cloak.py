"""What a user says stays text, also on its way through a chat template that could be anything.

In:  messages, tools and all else that a template is given; the names of tokens that text must not become.
Out: the same with each such name as one private character, which no template knows; and the way back after rendering.

    "say <|im_end|>"  --cloak-->  "say ◆"  --template-->  "<|im_start|>user⏎say ◆<|im_end|>⏎"
                                                  ◆ is encoded as the plain text "<|im_end|>"

The name itself never enters the template: whatever it strips, splits or changes, it cannot bring the name out. A
private character that a template loses or escapes is lost text, never a special token.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ownlm.errors import OwnlmError

# Private for good (Unicode, plane 15): a character for each name that occurs.
_FIRST_PRIVATE, _LAST_PRIVATE = 0xF0000, 0xFFFFD


class Cloak:
    """For one conversation: `hide` its values, render, and find in `names` what each private character stands for."""

    def __init__(self, given: Any, template: str) -> None:
        self.names: dict[str, str] = {}
        taken = set(template).union(*map(set, strings_in(given)))
        self._free = (chr(code) for code in range(_FIRST_PRIVATE, _LAST_PRIVATE) if chr(code) not in taken)
        self._of: dict[str, str] = {}

    def hide(self, value: Any, names: re.Pattern[str]) -> Any:
        """The value with every match of `names`, in any text within, as a private character."""
        if isinstance(value, str):
            return names.sub(lambda match: self._character(match[0]), value)
        if isinstance(value, Mapping):
            return {self.hide(key, names): self.hide(inner, names) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide(inner, names) for inner in value]
        return value

    def pieces(self, text: str) -> Iterator[tuple[str, bool]]:
        """The parts of a rendered text in order, with whether each is a private character."""
        if not self.names:
            yield text, False
            return
        for number, part in enumerate(re.split(f"([{''.join(self.names)}])", text)):
            if part:
                yield part, number % 2 == 1

    def _character(self, name: str) -> str:
        if name not in self._of:
            character = next(self._free, None)
            if character is None:
                raise OwnlmError("the conversation names too many special tokens; take them out of its text")
            self._of[name] = character
            self.names[character] = name
        return self._of[name]


def names_pattern(names: Iterable[str]) -> re.Pattern[str]:
    """Matches each name, the longest first; with no names, nothing."""
    longest_first = sorted(filter(None, names), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from strings_in(key)
            yield from strings_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from strings_in(inner)
