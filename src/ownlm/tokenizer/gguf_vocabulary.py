"""The vocabulary inside a GGUF file, rebuilt as a tokenizer: the ids that llama.cpp gives.

In:  the file's metadata, of which `tokenizer.*` is read.
Out: a Tokenizer.

    tokenizer.ggml.model "gpt2"    byte-level BPE: tokens, merges, and the name of a splitting expression
    tokenizer.ggml.model "llama"   SentencePiece: tokens with scores, and no merges. Of all neighbours that together are
                                   a token, those with the best score are joined: so each way to make a token of two is
                                   a merge, and the scores are their order.

Source: the GGUF specification (docs/gguf.md of ggml) for the fields, llama.cpp's src/llama-vocab.cpp for what they
mean where the specification is silent: defaults, and which tokens end an answer.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Pipeline

from ownlm.errors import DamagedError, OwnlmError
from ownlm.tokenizer.gguf_special import SpecialTokens, special_tokens
from ownlm.tokenizer.gguf_splitters import Splitter, splitter_of
from ownlm.tokenizer.settings import DEFAULT_TEMPLATE, Settings
from ownlm.tokenizer.token_bytes import SPACE_MARK
from ownlm.tokenizer.tokenizer import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_CHAT_TEMPLATE = "tokenizer.chat_template"
# Gemma's 262,144 pieces have 15 million ways to be cut, each as long as its piece.
_MOST_CUTS = 500_000_000


def tokenizer_from_gguf(metadata: Mapping[str, Any]) -> Tokenizer:
    """Build the tokenizer that a GGUF's metadata describes; a kind or a splitter that is unknown is refused by name."""
    model = metadata.get("tokenizer.ggml.model")
    if model is None:
        raise OwnlmError("this GGUF holds no tokenizer (no tokenizer.ggml.model); name a file with one")
    if model not in ("gpt2", "llama"):
        raise OwnlmError(f"this GGUF's tokenizer is of the kind {model!r}; ownlm reads gpt2 (BPE) and llama (SPM)")
    try:
        tokens = _tokens(metadata)
        types = _list(metadata, "token_type", int, len(tokens)) or [NORMAL] * len(tokens)
        special = special_tokens(metadata, tokens, types, is_spm=model == "llama")
        if model == "gpt2":
            return _byte_pairs(metadata, tokens, special)
        return _sentencepiece(metadata, tokens, types, special)
    except OwnlmError:
        raise
    except Exception as error:  # the library raises no narrower kind
        raise DamagedError(f"this GGUF's tokenizer does not fit together ({error}); fetch the file anew") from None


def _byte_pairs(metadata: Mapping[str, Any], tokens: list[str], special: SpecialTokens) -> Tokenizer:
    name = str(metadata.get("tokenizer.ggml.pre") or "default")
    splitter = splitter_of(name)
    vocab = {token: id for id, token in enumerate(tokens)}
    lines = metadata.get("tokenizer.ggml.merges")
    if lines is None:
        raise DamagedError("this GGUF's tokenizer has no merges (tokenizer.ggml.merges); convert the model anew")
    out_of_reach = {tokens[id] for id in special.control}
    merges = []
    for line in lines:
        left, _, right = str(line).partition(" ") if not str(line).startswith(" ") else ("", "", "")
        if left in vocab and right in vocab and left + right in vocab and left + right not in out_of_reach:
            merges.append((left, right))
    pipeline = Pipeline(models.BPE(vocab=vocab, merges=merges, ignore_merges=splitter.whole_words))
    pipeline.pre_tokenizer = splitting(splitter)
    pipeline.decoder = decoders.ByteLevel()
    return _finished(pipeline, tokens, metadata, special, add_bos=splitter.add_bos, pre=name)


def _sentencepiece(
    metadata: Mapping[str, Any], tokens: list[str], types: Sequence[int], special: SpecialTokens
) -> Tokenizer:
    scores = _list(metadata, "scores", float, len(tokens))
    if not scores:
        raise DamagedError("this GGUF's tokenizer has no scores (tokenizer.ggml.scores); convert the model anew")
    vocab = {token: id for id, token in enumerate(tokens)}
    # What text may become: control tokens and bytes are not made of pieces.
    made = [id for id in range(len(tokens)) if types[id] in (NORMAL, USER_DEFINED) and id not in special.control]
    unknown = tokens[special.unknown] if special.unknown is not None else None
    model = models.BPE(
        vocab=vocab, merges=merges_by_score(tokens, scores, made), unk_token=unknown, fuse_unk=True, byte_fallback=True
    )
    pipeline = Pipeline(model)
    marked = normalizers.Replace(" ", SPACE_MARK)
    prefixed = bool(metadata.get("tokenizer.ggml.add_space_prefix", True))
    pipeline.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE_MARK), marked]) if prefixed else marked
    undone = [decoders.Replace(SPACE_MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    pipeline.decoder = decoders.Sequence([*undone, decoders.Strip(" ", 1, 0)] if prefixed else undone)
    return _finished(pipeline, tokens, metadata, special, add_bos=True, pre=None)


def merges_by_score(tokens: Sequence[str], scores: Sequence[float], made: Sequence[int]) -> list[tuple[str, str]]:
    """Every way to make a token of two others, the best token first; among equals the one listed first."""
    if sum(len(tokens[id]) ** 2 for id in made) > _MOST_CUTS:
        raise DamagedError("this GGUF's tokenizer has tokens far too long to be any; fetch the file anew")
    parts = {tokens[id] for id in made}
    ordered = sorted(made, key=lambda id: (-scores[id], id))
    return [
        (token[:cut], token[cut:])
        for token in map(tokens.__getitem__, ordered)
        for cut in range(1, len(token))
        if token[:cut] in parts and token[cut:] in parts
    ]


def splitting(splitter: Splitter) -> pre_tokenizers.PreTokenizer:
    parts = [pre_tokenizers.Split(Regex(expression), "isolated") for expression in splitter.expressions]
    return pre_tokenizers.Sequence([*parts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _finished(
    pipeline: Pipeline,
    tokens: list[str],
    metadata: Mapping[str, Any],
    special: SpecialTokens,
    *,
    add_bos: bool,
    pre: str | None,
) -> Tokenizer:
    """The pipeline with its added tokens, and all that the metadata says beside the vocabulary."""
    add_bos = bool(metadata.get("tokenizer.ggml.add_bos_token", add_bos)) and special.bos is not None
    add_eos = bool(metadata.get("tokenizer.ggml.add_eos_token", False)) and special.eos is not None
    ids = sorted(special.control | special.user_defined)
    pipeline.add_tokens([AddedToken(tokens[id], special=id in special.control, normalized=False) for id in ids])
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [{**flags, "id": id, "content": tokens[id], "special": id in special.control} for id in ids]
    ends = {role: getattr(special, role) for role in ("bos", "eos", "unknown", "padding")}
    keys = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    names = {keys[role]: tokens[id] for role, id in ends.items() if id is not None}
    if add_bos or add_eos:
        begin, end = names.get("bos_token", ""), names.get("eos_token", "")
        frame = [*([f"{begin}:0"] if add_bos else []), "$A:0", *([f"{end}:0"] if add_eos else [])]
        framing = {token: pipeline.token_to_id(token) for token, on in ((begin, add_bos), (end, add_eos)) if on}
        pipeline.post_processor = processors.TemplateProcessing(single=frame, special_tokens=list(framing.items()))
    settings = Settings(names=names, end_ids=special.ends, templates=_templates(metadata), pre=pre)
    description = {
        "model": {"type": "BPE", "unk_token": pipeline.model.unk_token},
        "decoder": _decoder(pipeline),
        "added_tokens": added,
    }
    return Tokenizer.of_pipeline(pipeline, tokens, description, settings)


def _decoder(pipeline: Pipeline) -> dict[str, Any]:
    """The decoder as tokenizer.json writes it."""
    bare = Pipeline(models.BPE())
    bare.decoder = pipeline.decoder
    return dict(json.loads(bare.to_str())["decoder"])


def _templates(metadata: Mapping[str, Any]) -> dict[str, str]:
    prefix = f"{_CHAT_TEMPLATE}."
    named = {key.removeprefix(prefix): str(text) for key, text in metadata.items() if key.startswith(prefix)}
    return {**named, **({DEFAULT_TEMPLATE: str(metadata[_CHAT_TEMPLATE])} if _CHAT_TEMPLATE in metadata else {})}


def _tokens(metadata: Mapping[str, Any]) -> list[str]:
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, Sequence) or isinstance(tokens, str) or not tokens:
        raise DamagedError("this GGUF's tokenizer has no tokens (tokenizer.ggml.tokens); fetch the file anew")
    named = [str(token) or f"[EMPTY_{id}]" for id, token in enumerate(tokens)]
    if len(set(named)) != len(named):
        raise DamagedError("this GGUF's tokenizer lists a token twice (tokenizer.ggml.tokens); fetch the file anew")
    return named


def _list(metadata: Mapping[str, Any], name: str, kind: type, count: int) -> list[Any]:
    values = metadata.get(f"tokenizer.ggml.{name}")
    if values is None:
        return []
    if len(values) < count:
        raise DamagedError(
            f"this GGUF's tokenizer has {count} tokens, but {len(values)} in tokenizer.ggml.{name}; fetch the file anew"
        )
    return [kind(value) for value in values[:count]]
