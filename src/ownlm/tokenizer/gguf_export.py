"""A tokenizer as the metadata of a GGUF file, so that llama.cpp gives the same ids.

In:  a Tokenizer, the rows of the model's embedding, and the chat template.
Out: `tokenizer.*` keys with plain values.

    ours, bpe          model gpt2, splitter qwen2: the same expression
    ours, character    model llama (SPM) of single characters, where "▁" stands for a space as SPM has it
    ours, word         cannot be held: GGUF has no name for looking up whole words split by this expression
    byte-level BPE     model gpt2, where GGUF has a name for how it splits
    SentencePiece BPE  model llama; scores by the order of merges
"""

import json
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.tokenizer.gguf_splitters import GPT2, SPLITTERS, Splitter
from ownlm.tokenizer.gguf_vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED
from ownlm.tokenizer.settings import DEFAULT_TEMPLATE
from ownlm.tokenizer.special import END_OF_TEXT, IM_END, PAD
from ownlm.tokenizer.token_bytes import SPACE_MARK
from ownlm.tokenizer.tokenizer import Tokenizer

# What a tokenizer.json may put on the pieces of a word, beside what they stand for.
_MARKS = ("continuing_subword_prefix", "end_of_word_suffix")


def gguf_metadata(tokenizer: Tokenizer, *, padded_vocab_size: int, chat_template: str | None = None) -> dict[str, Any]:
    """The `tokenizer.*` metadata; OwnlmError where GGUF cannot hold the tokenizer."""
    if padded_vocab_size < tokenizer.vocab_size:
        raise OwnlmError(
            f"the model has rows for {padded_vocab_size} tokens, its tokenizer {tokenizer.vocab_size}; "
            "they do not belong together"
        )
    description = json.loads(tokenizer.to_json())
    if marks := [name for name in _MARKS if description["model"].get(name)]:
        raise OwnlmError(f"GGUF has no place for this tokenizer's {marks[0]}; keep the folder")
    if tokenizer.own:
        fields = _own(tokenizer, description, chat=chat_template is not None)
    elif tokenizer.kind == "byte-level BPE":
        fields = _byte_pairs(tokenizer, description)
    elif tokenizer.kind == "sentencepiece BPE":
        fields = _sentencepiece(tokenizer, description)
    else:
        raise OwnlmError(f"GGUF has no place for a tokenizer of the kind {tokenizer.kind!r}; keep the folder")
    tokens, types = fields["tokens"], fields["token_type"]
    for id in range(len(tokens), padded_vocab_size):
        tokens.append(f"[PAD{id}]")
        types.append(UNUSED)
        if "scores" in fields:
            fields["scores"].append(0.0)
    if len(set(tokens)) != len(tokens):
        raise OwnlmError("two tokens of this tokenizer would be one in GGUF; keep the folder")
    metadata = {f"tokenizer.ggml.{name}": value for name, value in fields.items() if value is not None}
    if chat_template is not None:
        metadata["tokenizer.chat_template"] = chat_template
    for name, text in tokenizer.settings.templates.items():
        if name != DEFAULT_TEMPLATE:
            metadata[f"tokenizer.chat_template.{name}"] = text
    return metadata


def _own(tokenizer: Tokenizer, description: dict[str, Any], *, chat: bool) -> dict[str, Any]:
    if tokenizer.kind == "word":
        raise OwnlmError("GGUF cannot hold a tokenizer of whole words; export the folder, or train one of kind bpe")
    fields = _vocabulary(tokenizer, description)
    if tokenizer.kind == "bpe":
        fields |= {"model": "gpt2", "pre": "qwen2", "merges": [" ".join(pair) for pair in _pairs(description)]}
    else:
        tokens: list[str] = fields["tokens"]
        if SPACE_MARK in tokens:
            raise OwnlmError(
                f"GGUF writes a space as {SPACE_MARK!r}, which this tokenizer has as a character; export the folder"
            )
        tokens[tokens.index(" ")] = SPACE_MARK
        # GGUF's readers take a text to end at a zero.
        tokens[0], fields["token_type"][0] = "<0x00>", BYTE
        fields |= {"model": "llama", "scores": [0.0] * len(tokens), "add_space_prefix": False}
    special = tokenizer.special
    return fields | {
        # llama.cpp takes id 11 for the beginning where none is named; none is put before a text.
        "bos_token_id": special[END_OF_TEXT],
        "eos_token_id": special[IM_END if chat else END_OF_TEXT],
        "padding_token_id": special[PAD],
        "add_bos_token": False,
        "add_eos_token": False,
    }


def _byte_pairs(tokenizer: Tokenizer, description: dict[str, Any]) -> dict[str, Any]:
    pre = tokenizer.settings.pre or splitter_name(description)
    return {
        **_vocabulary(tokenizer, description),
        "model": "gpt2",
        "pre": pre,
        "merges": [" ".join(pair) for pair in _pairs(description)],
        **_frame(tokenizer),
    }


def _sentencepiece(tokenizer: Tokenizer, description: dict[str, Any]) -> dict[str, Any]:
    if not description["model"].get("byte_fallback"):
        raise OwnlmError(
            "GGUF's SentencePiece spells unknown characters in bytes, this tokenizer does not; keep the folder"
        )
    fields = _vocabulary(tokenizer, description)
    # The sooner a token is made, the better its score; only the order counts.
    rank: dict[str, int] = {}
    for number, (left, right) in enumerate(_pairs(description)):
        rank.setdefault(left + right, number)
    fields["scores"] = [float(-rank.get(token, len(rank))) for token in fields["tokens"]]
    unknown = tokenizer.names.get("unk_token")
    return fields | {
        "model": "llama",
        "pre": "default",
        "add_space_prefix": tokenizer.puts_space_before,
        "unknown_token_id": tokenizer.special.get(unknown) if unknown else None,
        **_frame(tokenizer),
    }


def _frame(tokenizer: Tokenizer) -> dict[str, Any]:
    """Beginning, end and padding; and whether a text is put between the two."""
    eos = tokenizer.names.get("eos_token")
    suffix = tokenizer.whole.encode("a").ids[-1] == tokenizer.special.get(eos or "", -1)
    eos_id = tokenizer.special.get(eos) if eos else next(iter(tokenizer.end_ids), None)
    # Three keys hold ends; more of them are ends only where their names say so.
    others = [*(id for id in tokenizer.end_ids if id != eos_id), None, None]
    return {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": eos_id,
        "eot_token_id": others[0],
        "eom_token_id": others[1],
        "padding_token_id": tokenizer.pad_id,
        "add_bos_token": bool(tokenizer.prefix_ids),
        "add_eos_token": suffix,
    }


def _vocabulary(tokenizer: Tokenizer, description: dict[str, Any]) -> dict[str, Any]:
    """Tokens and their types; an id that no token has gets a name that no text holds."""
    tokens = [f"[PAD{id}]" for id in range(tokenizer.vocab_size)]
    types: list[int] = [UNUSED] * tokenizer.vocab_size
    for token, id in description["model"]["vocab"].items():
        tokens[id] = token
        is_byte = len(token) == 6 and token.startswith("<0x") and description["model"].get("byte_fallback")
        types[id] = BYTE if is_byte else NORMAL
    unknown = description["model"].get("unk_token")
    special = set(tokenizer.special.values())
    added = [(token["content"], token["id"]) for token in description["added_tokens"]]
    for token, id in [*added, *tokenizer.special.items()]:
        tokens[id] = token
        types[id] = USER_DEFINED if id not in special else UNKNOWN if token == unknown else CONTROL
    return {"tokens": tokens, "token_type": types}


def _pairs(description: dict[str, Any]) -> list[tuple[str, str]]:
    """The merges; older files write each as one text."""
    merges = description["model"]["merges"]
    split = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in merges]
    return [(left, right) for left, right in split]


def splitter_name(description: dict[str, Any]) -> str:
    """GGUF's name for how a tokenizer.json splits; OwnlmError where it has none."""
    # Qwen's files compose characters (NFC) first, which GGUF's readers leave out.
    plain = (description.get("normalizer") or {"type": "NFC"})["type"] == "NFC"
    expressions = _expressions(description.get("pre_tokenizer")) if plain else None
    whole_words = bool(description["model"].get("ignore_merges"))
    for name, splitter in SPLITTERS.items():
        if _is(splitter, expressions, whole_words):
            return name
    raise OwnlmError("GGUF has no name for how this tokenizer splits a text; keep the folder")


def _is(splitter: Splitter, expressions: list[str] | None, whole_words: bool) -> bool:
    return list(splitter.expressions) == expressions and splitter.whole_words == whole_words


def _expressions(part: dict[str, Any] | None) -> list[str] | None:
    """The expressions that a pre_tokenizer applies one after the other; None where it does something else."""
    if part is None:
        return None
    if part["type"] == "Sequence":
        inner = [_expressions(each) for each in part["pretokenizers"]]
        return None if None in inner else [expression for each in inner if each for expression in each]
    if part["type"] == "ByteLevel" and not part["add_prefix_space"]:
        return [GPT2] if part["use_regex"] else []
    # Llama 3's older files say "Removed" of all that the expression does not match: of nothing.
    keeps_all = part.get("behavior") == "Isolated" or (part.get("behavior") == "Removed" and part.get("invert"))
    if part["type"] == "Split" and keeps_all and "Regex" in part["pattern"]:
        return [part["pattern"]["Regex"]]
    if part["type"] == "Digits":
        return [r"\p{N}" if part["individual_digits"] else r"\p{N}+"]
    return None
