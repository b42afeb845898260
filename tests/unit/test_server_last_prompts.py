"""Why a prompt was not found computed: the token at which it leaves those before it."""

import pytest

from ownlm.engine import Request
from ownlm.server.last_prompts import Difference, LastPrompts, first_difference


def noted(last: LastPrompts, prompt: list[int], salt: str) -> Difference | None:
    return first_difference(prompt, last.note(Request(prompt=prompt, cache_salt=salt)))


@pytest.mark.parametrize(
    ("before", "prompt", "expected"),
    [
        ([], [1, 2, 3], None),
        ([[1, 2, 3]], [1, 2, 4], (2, 4, 3)),
        ([[1, 2, 3]], [1, 2, 3, 4], (3, 4, None)),
        ([[1, 2, 3]], [1, 2], (2, None, 3)),
        ([[1, 2, 3]], [9], (0, 9, 1)),
        ([[9, 9], [1, 2, 3, 4], [1, 2, 9]], [1, 2, 3, 5], (3, 5, 4)),
    ],
)
def test_the_most_alike_is_told(before: list[list[int]], prompt: list[int], expected: object) -> None:
    last = LastPrompts()
    for one in before:
        last.note(Request(prompt=one, cache_salt="a"))
    found = noted(last, prompt, "a")
    if expected is None:
        assert found is None
    else:
        assert isinstance(found, Difference) and (found.place, found.here, found.before) == expected


def test_owners_are_never_compared() -> None:
    last = LastPrompts()
    last.note(Request(prompt=[1, 2, 3], cache_salt="a"))
    assert noted(last, [1, 2, 3], "b") is None


def test_only_the_last_are_remembered() -> None:
    last = LastPrompts()
    for number in range(20):
        last.note(Request(prompt=[number, 0], cache_salt="a"))
    found = noted(last, [0, 0], "a")
    assert found is not None and found.place == 0
    for number in range(200):
        last.note(Request(prompt=[1], cache_salt=str(number)))
    assert noted(last, [0, 0], "a") is None
