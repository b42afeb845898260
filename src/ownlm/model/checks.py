"""Is a value of a configuration what it must be? One line says what was wrong; nothing is converted in silence.

JSON holds NaN, true where a number belongs, and numbers of any size: each is refused before anything is allocated.
"""

from collections.abc import Collection
from typing import Any

from ownlm.errors import OwnlmError

_LARGEST = 2**31


def whole(name: str, value: Any, *, least: int = 1, most: int = _LARGEST) -> int:
    if type(value) is not int or not least <= value <= most:
        raise OwnlmError(f"{name} must be a whole number from {least} to {most}, got {shown(value)}")
    return value


def number(name: str, value: Any, *, least: float = 0.0, most: float = 1e12) -> float:
    """A finite number; NaN lies in no range."""
    if type(value) not in (int, float) or not least <= value <= most:
        raise OwnlmError(f"{name} must be a number from {least:g} to {most:g}, got {shown(value)}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    if type(value) is not bool:
        raise OwnlmError(f"{name} must be true or false, got {shown(value)}")
    return value


def choice(name: str, value: Any, allowed: Collection[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise OwnlmError(f"{name} is {shown(value)}, which ownlm does not compute; it computes {', '.join(allowed)}")
    return value


def shown(value: Any) -> str:
    """A value as a message can hold it."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
