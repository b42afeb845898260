"""Three readings of one tokenizer.json that ownlm did not train, over one vocabulary in memory.

In:  a `tokenizers` pipeline and its added tokens.
Out: `whole` parses special tokens in a text (a chat template's own output), `plain` never does (a user's text), and
     `strict` is for the rare text out of whose pieces the vocabulary itself would build a special token.

    "a<|im_end|>b"   whole -> [a, <|im_end|>, b]      plain -> [a, <, |, im, _end, |, >, b]

Added tokens that are not special ("<think>" of Qwen, runs of spaces of Gemma) are found in a text on every reading, as
transformers and llama.cpp find them.
"""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Pipeline

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class Pipelines:
    """`added` is the list of tokenizer.json: id, content and flags of each added token."""

    def __init__(self, whole: Pipeline, added: Iterable[Mapping[str, Any]], unknown: str | None) -> None:
        whole.no_padding()
        whole.no_truncation()
        self.whole = whole
        self.added = sorted(added, key=lambda token: token["id"])
        self.special = {token["content"]: token["id"] for token in self.added if token["special"]}
        # A character that no piece holds becomes the unknown token; that is no breach.
        self._guarded = {id for name, id in self.special.items() if name != unknown}
        self.plain = _shared(whole)
        self.plain.encode_special_tokens = True
        self.plain.add_tokens([AddedToken(token["content"], **_flags(token)) for token in self.added])
        for token in self.added:
            if self.plain.token_to_id(token["content"]) != token["id"]:
                raise ValueError(f"the added token {token['content']!r} cannot have the id {token['id']}")

    def encode(self, text: str) -> list[int]:
        """Ids of a text in which nothing is special, whatever it says."""
        ids: list[int] = self.plain.encode(text, add_special_tokens=False).ids
        return ids if self._guarded.isdisjoint(ids) else self.encode_strictly(text)

    def encode_strictly(self, text: str) -> list[int]:
        ids: list[int] = self._strict.encode(text, add_special_tokens=False).ids
        return ids

    def is_guarded(self, vocab_size: int) -> list[bool]:
        return [id in self._guarded for id in range(vocab_size)]

    @cached_property
    def _strict(self) -> Pipeline:
        """The same ids under names that no text can spell: what chance drew in this process."""
        secret = secrets.token_hex(16)
        renamed = {name: f"\x00{secret}{id}\x00" for name, id in self.special.items()}
        description = json.loads(self.whole.to_str())
        for token in description["added_tokens"]:
            token["content"] = renamed.get(token["content"], token["content"])
        model = description["model"]
        if isinstance(model["vocab"], dict):
            model["vocab"] = {renamed.get(name, name): id for name, id in model["vocab"].items()}
        else:
            model["vocab"] = [[renamed.get(name, name), score] for name, score in model["vocab"]]
        if model.get("unk_token") in renamed:
            model["unk_token"] = renamed[model["unk_token"]]
        if "merges" in model:
            model["merges"] = [
                pair for pair in map(_pair, model["merges"]) if not renamed.keys() & {*pair, "".join(pair)}
            ]
        description["post_processor"] = None
        strict = Pipeline.from_str(json.dumps(description))
        strict.encode_special_tokens = True
        return strict


def prefix_of(pipeline: Pipeline) -> list[int]:
    """The ids that the post-processor puts before a text: mostly none, or the one that begins a text."""
    if pipeline.post_processor is None:
        return []
    framed: list[int] = pipeline.encode("a").ids
    bare: list[int] = pipeline.encode("a", add_special_tokens=False).ids
    places = range(len(framed) - len(bare) + 1)
    start = next((place for place in places if framed[place : place + len(bare)] == bare), 0)
    return framed[:start]


def add_missing(whole: Pipeline, added: list[dict[str, Any]], wanted: Sequence[Mapping[str, Any]]) -> None:
    """Add to the pipeline, and to the list `added`, the tokens that it does not have among its added ones yet."""
    known = {token["content"] for token in added}
    for token in wanted:
        if token["content"] in known:
            continue
        whole.add_tokens([AddedToken(token["content"], **_flags(token))])
        id = whole.token_to_id(token["content"])
        added.append({**dict.fromkeys(FLAGS, False), **token, "id": id})
        known.add(token["content"])


def _shared(whole: Pipeline) -> Pipeline:
    """Another pipeline over the same model: the vocabulary is in memory once."""
    pipeline = Pipeline(whole.model)
    for part in ("normalizer", "pre_tokenizer", "decoder"):
        if (value := getattr(whole, part)) is not None:
            setattr(pipeline, part, value)
    return pipeline


def _flags(token: Mapping[str, Any]) -> dict[str, bool]:
    return {flag: bool(token.get(flag, False)) for flag in FLAGS}


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right
