"""Just enough of GGUF to give tests a file's metadata; the product has its own, checked, reader."""

import gzip
import struct
from pathlib import Path
from typing import Any

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


def metadata(path: Path) -> dict[str, Any]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    place = 0

    def number(code: str) -> Any:
        nonlocal place
        (value,) = struct.unpack_from(f"<{code}", data, place)
        place += struct.calcsize(code)
        return value

    def string() -> str:
        nonlocal place
        size = number("Q")
        place += size
        return data[place - size : place].decode("utf-8")

    def value(kind: int) -> Any:
        nonlocal place
        if kind == _STRING:
            return string()
        if kind != _ARRAY:
            return number(_NUMBERS[kind])
        inner, count = number("I"), number("Q")
        if inner == _STRING:
            return [string() for _ in range(count)]
        values = struct.unpack_from(f"<{count}{_NUMBERS[inner]}", data, place)
        place += count * struct.calcsize(_NUMBERS[inner])
        return list(values)

    assert data[:4] == b"GGUF"
    place = 16
    return {string(): value(number("I")) for _ in range(number("Q"))}
