"""Limits on what a chat template may cost: a template comes with a model, and nobody has read it.

In:  values and operations as a template makes them.
Out: the same, or TooCostly: more steps, time, text or structure than any chat needs.

Jinja's sandbox keeps a template from Python's inside, not from `range(99999)` within itself, from doubling a text
forty times, or from a list whose parts hold each other so often that printing it never ends. So every operation that
can enlarge a value is sent through here: it is refused before it is done where its result would be too large, and no
value ever grows beyond `MOST_SIZE`. Then each operation is short, and looking at the clock between them is enough: no
signals, no second process, the same on every system.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from types import BuiltinMethodType
from typing import Any

from jinja2.exceptions import TemplateRuntimeError

# Characters and parts of the largest value, and of what is written: forty times the longest chat of a 128 k context
# would be more, the largest that a template makes of one is about twice its text.
MOST_SIZE = 16_000_000
MOST_STEPS = 4_000_000
# Of this thread alone, so that a busy machine does not count. Real templates take milliseconds.
MOST_SECONDS = 1.0
MOST_BITS = 4096
_STEPS_BETWEEN_LOOKS = 64


class TooCostly(TemplateRuntimeError):
    """A template asked for more than any chat needs."""


class Budget:
    """What one rendering has spent."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self._steps = 0
        self._written = 0
        self._end = time.thread_time() + MOST_SECONDS

    def step(self) -> None:
        self._steps += 1
        if self._steps % _STEPS_BETWEEN_LOOKS == 0:
            if self._steps > MOST_STEPS:
                raise TooCostly(f"it takes more than {MOST_STEPS:,} steps")
            self.look()

    def look(self) -> None:
        if time.thread_time() > self._end:
            raise TooCostly(f"it takes more than {MOST_SECONDS:g} s")

    def write(self, size: int) -> None:
        self._written += size
        if self._written > MOST_SIZE:
            raise TooCostly(f"it writes more than {MOST_SIZE:,} characters")

    def iterate(self, values: Iterable[Any]) -> "Steps":
        return Steps(values, self)


class Steps:
    """An iterable whose every element is a step."""

    def __init__(self, values: Iterable[Any], budget: Budget) -> None:
        self._values, self._budget = values, budget

    def __iter__(self) -> Iterator[Any]:
        for value in self._values:
            self._budget.step()
            yield value

    def __len__(self) -> int:
        if not isinstance(self._values, Sized):
            raise TypeError("a generator has no length")
        return len(self._values)


def check_size(size: int) -> None:
    if size > MOST_SIZE:
        raise TooCostly(f"it makes a value of more than {MOST_SIZE:,} characters")


def checked(value: Any) -> Any:
    """The value, when all that it holds, each part counted as often as it is reached, is small enough."""
    if isinstance(value, str | bytes):
        check_size(len(value))
    elif isinstance(value, int):
        if value.bit_length() > MOST_BITS:
            raise TooCostly("it makes a number too large")
    elif isinstance(value, list | tuple | Mapping | set | frozenset):
        size_of(value)
    return value


def size_of(value: Any) -> int:
    """Characters and parts of a value, as they would be written out."""
    size = 0
    waiting = [value]
    while waiting:
        part = waiting.pop()
        size += len(part) if isinstance(part, str | bytes) else 1
        if isinstance(part, Mapping):
            waiting.extend(part.keys())
            waiting.extend(part.values())
        elif isinstance(part, list | tuple | set | frozenset):
            waiting.extend(part)
        if size > MOST_SIZE or len(waiting) > MOST_SIZE:
            check_size(MOST_SIZE + 1)
    return size


def depth_of(value: Any) -> int:
    """How deep lists and mappings lie in one another; `value` has passed `checked`."""
    depth, level = 0, [value]
    while level:
        depth += 1
        parts = [part for part in level if isinstance(part, list | tuple | Mapping)]
        level = [
            inner for part in parts for inner in (part.values() if isinstance(part, Mapping) else part)
        ]
    return depth


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Refuse what would be too large before it is made."""
    if operator == "*":
        for sequence, number in ((left, right), (right, left)):
            if isinstance(sequence, str | bytes | list | tuple) and isinstance(number, int):
                check_size(size_of(sequence) * max(number, 0))
    elif operator == "**":
        if isinstance(left, int) and isinstance(right, int):
            if left.bit_length() * abs(right) > MOST_BITS:
                raise TooCostly("it makes a number too large")
    elif operator == "%" and isinstance(left, str | bytes):
        check_format(left, right)
    elif operator == "+" and isinstance(left, str) and isinstance(right, str):
        check_size(len(left) + len(right))


_WIDE = re.compile(r"\d{4}|\*|\{[^{}]*\{")


def check_format(pattern: Any, *values: Any) -> None:
    """A pattern may set a width, in figures or by a value."""
    text = pattern if isinstance(pattern, str) else str(pattern)
    if _WIDE.search(text):
        raise TooCostly("it formats with a width too large, or one that is computed")
    check_size(len(text) + (1 + text.count("%") + text.count("{")) * sum(map(size_of, values)))


def check_call(function: Any, arguments: tuple[Any, ...]) -> None:
    """Refuse a text's method that would make too much of it."""
    if not isinstance(function, BuiltinMethodType) or not isinstance(text := function.__self__, str):
        return
    name = function.__name__
    numbers = [argument for argument in arguments if isinstance(argument, int)]
    if numbers and max(numbers) > MOST_SIZE:
        raise TooCostly("it sets a width too large")
    if name == "replace":
        check_replace(text, *arguments[:2])
    elif name == "join" and arguments:
        check_join(text, arguments[0])
    elif name == "expandtabs":
        check_size(len(text) + text.count("\t") * max([8, *numbers]))
    elif name == "format":
        check_format(text, *arguments)


def check_replace(text: Any, old: Any = "", new: Any = "", *_: Any) -> None:
    text, old, new = str(text), str(old), str(new)
    places = text.count(old) if old else len(text) + 1
    check_size(len(text) + places * len(new))


def check_join(separator: Any, values: Any) -> None:
    if isinstance(values, Sized):
        check_size(len(str(separator)) * len(values))
        checked(values)


def guarded(function: Callable[..., Any], budget: Budget, check: Callable[..., None] | None = None) -> Callable[..., Any]:
    """A filter, a test or a global function that takes a step and gives nothing too large; Jinja's marks stay."""

    def guard(*arguments: Any, **keywords: Any) -> Any:
        budget.step()
        for argument in (*arguments, *keywords.values()):
            if isinstance(argument, int) and abs(argument) > MOST_SIZE:
                raise TooCostly("it is given a number too large")
        if check is not None:
            check(*arguments, **keywords)
        return checked(function(*arguments, **keywords))

    mark = getattr(function, "jinja_pass_arg", None)
    if mark is not None:
        guard.jinja_pass_arg = mark  # type: ignore[attr-defined]
    return guard
