"""GGUF files made byte by byte, right ones and wrong ones, without our writer."""

from struct import pack
from typing import Any

U8, I8, U32, I32, F32, BOOL, STRING, ARRAY, U64 = 0, 1, 4, 5, 6, 7, 8, 9, 10
_LETTERS = {U8: "B", I8: "b", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q"}


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return pack("<Q", len(data)) + data


def value(kind: int, content: Any) -> bytes:
    """A value without its type; for ARRAY, `content` is the inner type and the entries."""
    if kind == STRING:
        return text(content)
    if kind == ARRAY:
        inner, entries = content
        return pack("<IQ", inner, len(entries)) + b"".join(value(inner, entry) for entry in entries)
    return pack(f"<{_LETTERS[kind]}", content)


def key(name: str | bytes, kind: int, content: Any) -> bytes:
    return text(name) + pack("<I", kind) + value(kind, content)


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    """`shape` in the file's order: the fastest dimension first."""
    return text(name) + pack("<I", len(shape)) + pack(f"<{len(shape)}Q", *shape) + pack("<IQ", kind, offset)


def file(
    *,
    keys: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    data: bytes = b"",
    magic: bytes = b"GGUF",
    version: int = 3,
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
) -> bytes:
    keys, tensors = keys or [], tensors or []
    head = magic + pack("<I", version) + pack("<QQ", *(counts or (len(tensors), len(keys))))
    head += b"".join(keys) + b"".join(tensors)
    return head + b"\0" * (-len(head) % alignment) + data


def small() -> bytes:
    """A right file with a bit of everything."""
    keys = [
        key("general.architecture", STRING, "llama"),
        key("a.flag", BOOL, True),
        key("a.count", U32, 7),
        key("a.large", U64, 1 << 63),
        key("a.number", F32, 0.5),
        key("a.words", ARRAY, (STRING, ["one", "", "zwölf 😀"])),
        key("a.numbers", ARRAY, (I32, [1, -2, 3])),
        key("a.flags", ARRAY, (BOOL, [True, False])),
    ]
    tensors = [tensor("first", (32, 2), 8, 0), tensor("second", (5,), 0, 96)]
    return file(keys=keys, tensors=tensors, data=bytes(range(68)) + b"\0" * 28 + b"\0\0\x80\x3f" * 5)
