"""Limits on what a chat template may cost: a template comes with a model, and nobody has read it.

In:  values and operations as a template makes them.
Out: nothing, or TooCostly: more steps, time, text or structure than any chat needs.

Jinja's sandbox keeps a template from Python's inside, not from `range(99999)` within itself, from doubling a text
forty times, or from a list whose parts hold each other so often that printing it never ends. So every operation that
can enlarge a value is checked here before it is done, and no value ever grows beyond `most_size`. Then each operation
is short, and looking at the clock between them is enough: no signals, no second process, the same on every system.
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping, MappingView, Sized
from typing import Any, cast

from jinja2.exceptions import TemplateRuntimeError

# What a template may make of nothing; beside that, so many times what it is given to render.
LEAST_SIZE, TIMES_INPUT = 2_000_000, 8
LEAST_SECONDS, SECONDS_PER_CHARACTER = 1.0, 1e-6
MOST_STEPS = 4_000_000
MOST_BITS = 4096
MOST_WIDTH = 10_000
_STEPS_BETWEEN_LOOKS = 64
# A part of a list or mapping costs as much to go through as so many characters.
_PART = 16
# A width of four figures, one that is computed ("%*d", "{:{}}").
_WIDE = re.compile(r"\d{4}|%[^a-zA-Z%]*\*|\{[^{}]*\{[^{}]*\}")
_HOLDERS = (list, tuple, set, frozenset, MappingView)
_NESTED = (Mapping, *_HOLDERS)


class TooCostly(TemplateRuntimeError):
    """A template asked for more than any chat needs."""


class Budget:
    """What one rendering may still spend; sizes are in characters and parts, as they would be written out."""

    def __init__(self) -> None:
        self.start(None)

    def start(self, given: Any) -> None:
        """Begin a rendering of `given`. The clock is this thread's own: a busy machine does not count."""
        self.most_size, self._end = 2**62, 2.0**62
        given_size = self.size_of(given)
        self.most_size = LEAST_SIZE + TIMES_INPUT * given_size
        self._seconds = LEAST_SECONDS + SECONDS_PER_CHARACTER * given_size
        self._end = time.thread_time() + self._seconds
        self._steps = self._written = 0

    def step(self) -> None:
        """A turn of a loop, which is cheap: the clock is looked at now and then."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise TooCostly(f"it takes more than {MOST_STEPS:,} steps")
        if self._steps % _STEPS_BETWEEN_LOOKS == 0:
            self.look()

    def look(self) -> None:
        if time.thread_time() > self._end:
            raise TooCostly(f"it takes more than {self._seconds:.1f} s")

    def write(self, size: int) -> None:
        self._written += size
        self.check_size(self._written)

    def check_size(self, size: int) -> None:
        if size > self.most_size:
            raise TooCostly(f"it makes more than {self.most_size:,} characters")

    def checked(self, value: Any) -> Any:
        """The value, when all that it holds is small enough, each part counted as often as it is reached."""
        if isinstance(value, str | bytes):
            self.check_size(len(value))
        elif isinstance(value, int):
            if value.bit_length() > MOST_BITS:
                raise TooCostly("it makes a number too large")
        elif isinstance(value, _NESTED):
            self.size_of(value)
        elif isinstance(value, Iterator):
            return self.metered(value)
        return value

    def size_of(self, value: Any) -> int:
        """Characters and parts, each part counted as often as it is reached."""
        size = seen = 0
        waiting = [value]
        while waiting:
            part = waiting.pop()
            if isinstance(part, str | bytes):  # first: most parts are
                size += len(part)
            else:
                size += _PART
                if isinstance(part, Mapping):
                    waiting.extend(part.keys())
                    waiting.extend(part.values())
                elif isinstance(part, _HOLDERS):
                    waiting.extend(cast(Iterable[Any], part))
            self.check_size(size + _PART * len(waiting))
            seen += 1
            if seen % 1024 == 0:
                self.look()
        return size

    def metered(self, values: Iterator[Any]) -> Iterator[Any]:
        """What a lazy filter gives, counted while it gives."""
        size = 0
        for value in values:
            self.step()
            size += self.size_of(value)
            self.check_size(size)
            yield value

    def check_operation(self, operator: str, left: Any, right: Any) -> None:
        """Refuse what would be too large before it is made."""
        self.look()
        if operator == "*":
            for sequence, number in ((left, right), (right, left)):
                if isinstance(sequence, str | bytes | list | tuple) and isinstance(number, int):
                    self.check_size(self.size_of(sequence) * max(number, 0))
        elif operator == "**":
            if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > MOST_BITS:
                raise TooCostly("it makes a number too large")
        elif operator == "%" and isinstance(left, str | bytes):
            self.check_format(left, right)
        elif operator == "+" and isinstance(left, str) and isinstance(right, str):
            self.check_size(len(left) + len(right))

    def check_method(self, function: Any, arguments: tuple[Any, ...]) -> None:
        """Refuse a text's method that would make too much of it."""
        # The sandbox gives `format` wrapped.
        function = getattr(function, "__wrapped__", function)
        text = getattr(function, "__self__", None)
        if not isinstance(text, str):
            return
        name = getattr(function, "__name__", "")
        if name in ("center", "ljust", "rjust", "zfill", "expandtabs"):
            self.check_width(*arguments[:1])
            self.check_size(len(text) + (1 + text.count("\t")) * MOST_WIDTH)
        elif name == "replace":
            self.check_replace(text, *arguments)
        elif name == "join" and arguments:
            self.check_join(text, arguments[0])
        elif name == "format":
            self.check_format(text, *arguments)

    def check_width(self, width: Any = 0, *_: Any) -> None:
        if isinstance(width, int) and width > MOST_WIDTH:
            raise TooCostly("it sets a width too large")

    def check_replace(self, text: Any, old: Any = "", new: Any = "", *_: Any) -> None:
        text, old, new = str(text), str(old), str(new)
        places = text.count(old) if old else len(text) + 1
        self.check_size(len(text) + places * len(new))

    def check_join(self, separator: Any, values: Any) -> None:
        if isinstance(values, Sized):
            self.check_size(len(str(separator)) * len(values) + self.size_of(values))

    def check_format(self, pattern: Any, *values: Any) -> None:
        text = pattern if isinstance(pattern, str) else str(pattern)
        if _WIDE.search(text):
            raise TooCostly("it formats with a width too large, or one that is computed")
        fields = text.count("%") + text.count("{")
        self.check_size(len(text) + fields * sum(map(self.size_of, values)))

    def check_indent(self, text: Any, width: Any = 4, *_: Any) -> None:
        self.check_width(width)
        deep = len(width) if isinstance(width, str) else int(width)
        self.check_size(len(str(text)) + (1 + str(text).count("\n")) * max(deep, 0))

    def check_json(self, value: Any, indent: Any) -> None:
        """Every part may stand on its own line, indented as deep as it lies."""
        size = self.size_of(value)
        if indent:
            self.check_width(indent)
            deep = len(indent) if isinstance(indent, str) else int(indent)
            self.check_size(size * max(1, deep) * _depth_of(value))


class Steps:
    """A loop's values, each of which is a step."""

    def __init__(self, values: Iterable[Any], budget: Budget) -> None:
        self._values, self._budget = values, budget

    def __iter__(self) -> Iterator[Any]:
        for value in self._values:
            self._budget.step()
            yield value

    def __len__(self) -> int:
        if not isinstance(self._values, Sized):
            raise TypeError("a generator has no length")  # Jinja then makes a list of it
        return len(self._values)


def _depth_of(value: Any) -> int:
    """How deep lists and mappings lie in one another."""
    depth, level = 0, [value]
    while level:
        depth += 1
        inside = [part.values() if isinstance(part, Mapping) else part for part in level if isinstance(part, _NESTED)]
        level = [part for parts in inside for part in cast(Iterable[Any], parts)]
    return depth
