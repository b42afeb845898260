"""What each token stands for in bytes, read off a tokenizer.json.

In:  the tokens by id, the added ones among them, and the `decoder` of a tokenizer.json.
Out: a table of bytes, and whether decoding drops the space that encoding had put in front.

    byte-level      "Ġword"  ->  b" word"      visible characters for bytes (reference.py)
    SentencePiece   "▁word"  ->  b" word"      and "<0xE4>" -> b"\\xe4" for a byte that no piece holds
    WordPiece       "word"   ->  b" word"      and "##ing" -> b"ing", what goes on from the token before
    joined          "word"   ->  b" word"      a tokenizer without decoder: tokens are words, set apart by spaces
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ownlm.errors import OwnlmError
from ownlm.tokenizer.reference import byte_characters

SPACE_MARK = "▁"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# "one" leading space of the whole text, or "all" those of its first token, as Metaspace does it.
Dropped = Literal["none", "one", "all"]


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """How tokens are written in a tokenizer.json."""

    kind: Literal["byte-level", "sentencepiece", "wordpiece", "joined"]
    dropped: Dropped = "none"
    replacement: str = SPACE_MARK
    byte_fallback: bool = False


def spelling_of(decoder: Mapping[str, Any] | None) -> Spelling:
    """The spelling that a tokenizer.json's `decoder` undoes; one that cannot be read is refused by name."""
    if decoder is None:
        return Spelling(kind="joined", dropped="one")
    parts = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    names = [part["type"] for part in parts]
    if names == ["ByteLevel"]:
        return Spelling(kind="byte-level")
    if names == ["WordPiece"]:
        return Spelling(kind="wordpiece", dropped="one", replacement=parts[0]["prefix"])
    unknown = [name for name in names if name not in ("Replace", "ByteFallback", "Fuse", "Strip", "Metaspace")]
    if unknown:
        raise OwnlmError(
            f"this tokenizer.json decodes with {unknown[0]!r}, which ownlm does not know; "
            "it reads ByteLevel, WordPiece, Metaspace and SentencePiece's Replace, ByteFallback, Fuse and Strip"
        )
    dropped: Dropped = "none"
    replacement = SPACE_MARK
    for part in parts:
        if part["type"] == "Metaspace":
            replacement = part["replacement"]
            # Files of older versions say it by `add_prefix_space` alone.
            scheme = part.get("prepend_scheme", "always" if part.get("add_prefix_space", True) else "never")
            dropped = "none" if scheme == "never" else "all"
        elif part["type"] == "Replace" and part["content"] == " ":
            replacement = part["pattern"]["String"]
        elif part["type"] == "Strip" and part["start"]:
            dropped = "one"
    return Spelling(
        kind="sentencepiece", dropped=dropped, replacement=replacement, byte_fallback="ByteFallback" in names
    )


def bytes_of_tokens(tokens: Sequence[str | None], added: Iterable[int], spelling: Spelling) -> list[bytes]:
    """Each id's bytes; b"" where no token has the id. Added tokens stand for their own text."""
    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    written_out = set(added)

    def spell(id: int, token: str | None) -> bytes:
        if token is None:
            return b""
        if spelling.kind == "byte-level":
            if id in written_out:
                return token.encode()
            try:
                return bytes([byte_of[character] for character in token])
            except KeyError:  # a special token of a vocabulary that does not list it as added
                return token.encode()
        if spelling.kind == "wordpiece" and token.startswith(spelling.replacement):
            return token.removeprefix(spelling.replacement).encode()
        if spelling.kind in ("joined", "wordpiece"):
            return f" {token}".encode()
        if spelling.byte_fallback and (byte := _BYTE_TOKEN.fullmatch(token)):
            return bytes([int(byte[1], 16)])
        return token.replace(spelling.replacement, " ").encode()

    return [spell(id, token) for id, token in enumerate(tokens)]
