"""Which of our three kinds a tokenizer.json describes, and what its tokens stand for; train.py makes them.

In:  the parsed tokenizer.json.
Out: "bpe", "word" or "character", or None for a tokenizer that ownlm did not train; and its ordinary tokens' bytes.
"""

from typing import Any

from ownlm.tokenizer.reference import PATTERN, byte_characters
from ownlm.tokenizer.special import SPECIAL_TOKENS


def own_kind(description: dict[str, Any]) -> str | None:
    model, splitter = description["model"], description["pre_tokenizer"]
    special = {token["content"] for token in description["added_tokens"]}
    # Ours alone, and each in its place: a Qwen tokenizer has the same expression and some of the names.
    if model["type"] != "BPE" or description["normalizer"] is not None or not special.issuperset(SPECIAL_TOKENS):
        return None
    if splitter is None:
        return "character" if model["byte_fallback"] and not model["merges"] else None
    expressions = [part.get("pattern") for part in splitter.get("pretokenizers", [])]
    if {"Regex": PATTERN} not in expressions:
        return None
    return "word" if model["ignore_merges"] else "bpe"


def own_bytes(kind: str, vocab: dict[str, int], special: dict[str, int]) -> list[bytes]:
    """Each id's bytes, undoing the spelling in which tokenizer.json writes them."""
    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    table = [b""] * (len(vocab) + len(special))
    for token, id in vocab.items():
        if kind != "character":
            table[id] = bytes(byte_of[character] for character in token)
        elif id < 256:
            table[id] = bytes([id])
        else:
            table[id] = token.encode()
    for name, id in special.items():
        table[id] = name.encode()
    return table
