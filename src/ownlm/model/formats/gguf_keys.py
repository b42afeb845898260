"""The keys of one architecture in a GGUF file's metadata, each read as what it must be."""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from struct import pack
from typing import Any, NoReturn

from ownlm.errors import DamagedError

_MOST = 1 << 31


class Keys:
    """`count("block_count")` reads `llama.block_count`, and refuses what is no count; so do the others."""

    def __init__(self, path: Path, metadata: Mapping[str, Any], architecture: str) -> None:
        self.path, self.metadata, self.architecture = path, metadata, architecture

    def damaged(self, what: str) -> NoReturn:
        raise DamagedError(f"{self.path} is damaged: {what}; fetch or convert it again")

    def has(self, key: str) -> bool:
        return f"{self.architecture}.{key}" in self.metadata

    def value(self, key: str) -> Any:
        return self.metadata.get(f"{self.architecture}.{key}")

    def count(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        value = self._given(key, default)
        if isinstance(value, list) and value and all(entry == value[0] for entry in value):
            # One for each layer, all alike.
            value = value[0]
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < _MOST:
            self.damaged(f"{self.architecture}.{key} is {_shown(value)}, no count from {least} on")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._given(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            self.damaged(f"{self.architecture}.{key} is {_shown(value)}, no number")
        return short(float(value))

    def flag(self, key: str, default: bool) -> bool:
        value = self._given(key, default)
        if not isinstance(value, bool):
            self.damaged(f"{self.architecture}.{key} is {_shown(value)}, neither true nor false")
        return value

    def _given(self, key: str, default: Any) -> Any:
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if value is None:
            self.damaged(f"it lacks {self.architecture}.{key}")
        return value


def short(value: float) -> float:
    """The shortest decimal that is this float32: a file's 9.99999974e-06 was 1e-05 in config.json."""
    for digits in range(6, 10):
        rounded = float(f"{value:.{digits}g}")
        if _float32(rounded) == _float32(value):
            return rounded
    return value


def _float32(value: float) -> bytes | None:
    try:
        return pack("<f", value)
    except OverflowError:
        return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
