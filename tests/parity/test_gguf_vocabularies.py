"""Vocabularies of real models, out of GGUF files, against the ids that llama.cpp's own tests expect.

The files lie beside the checkout (tests/conftest.py: shared_data); `OWNLM_GGUF_VOCABULARIES` may name a folder with
more of them: llama.cpp's models/ has NAME.gguf with NAME.gguf.inp and NAME.gguf.out for a dozen splitters.
"""

import json
import os
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Pipeline
from tokenizers import decoders, models

import gguf_header
from ownlm.tokenizer import Tokenizer, gguf_metadata, tokenizer_from_gguf
from ownlm.tokenizer.gguf_splitters import GPT2, GPT4O, LLAMA3, Splitter
from ownlm.tokenizer.gguf_vocabulary import splitting
from ownlm.tokenizer.reference import byte_characters

BETWEEN = "\n__ggml_vocab_test__\n"
NAMES = ("gpt-2", "llama-bpe", "llama-spm", "qwen2")


def files(shared_data: Path, name: str) -> tuple[dict[str, Any], list[tuple[str, list[int]]]]:
    folder = shared_data / "tokenizers-llamacpp-vectors"
    texts = (folder / f"ggml-vocab-{name}.gguf.inp").read_text(encoding="utf-8").split(BETWEEN)
    lines = (folder / f"ggml-vocab-{name}.gguf.out").read_text(encoding="utf-8").split("\n")
    expected = [[int(id) for id in line.split()] for line in lines]
    return gguf_header.metadata(folder / f"ggml-vocab-{name}.gguf.gz"), list(zip(texts, expected, strict=False))


@pytest.mark.parametrize("name", NAMES)
def test_the_ids_of_llama_cpp(shared_data: Path, name: str) -> None:
    metadata, cases = files(shared_data, name)
    tokenizer = tokenizer_from_gguf(metadata)
    assert len(cases) > 40
    for text, expected in cases:
        assert tokenizer.encode(text) == expected, text
        assert tokenizer.decode(expected) == text
        assert tokenizer.encode_batch([text])[0].tolist() == expected
        decoder = tokenizer.stream()
        assert "".join([*map(decoder.push, expected), decoder.finish()]) == text


@pytest.mark.parametrize("name", ["gpt-2", "llama-spm"])
def test_written_again_they_are_the_same(shared_data: Path, name: str) -> None:
    metadata, cases = files(shared_data, name)
    tokenizer = tokenizer_from_gguf(metadata)
    again = gguf_metadata(tokenizer, padded_vocab_size=tokenizer.vocab_size)
    for key in ("tokens", "merges", "pre", "model"):
        if f"tokenizer.ggml.{key}" in metadata and name != "llama-spm":
            assert again[f"tokenizer.ggml.{key}"] == metadata[f"tokenizer.ggml.{key}"]
    rebuilt = tokenizer_from_gguf(again)
    assert [rebuilt.encode(text) for text, _ in cases] == [expected for _, expected in cases]


def test_every_vocabulary_that_is_there() -> None:
    if not (folder := os.environ.get("OWNLM_GGUF_VOCABULARIES")):
        pytest.skip("announced: OWNLM_GGUF_VOCABULARIES names no folder of vocabularies")
    for path in sorted(Path(folder).glob("*.gguf")):
        metadata = gguf_header.metadata(path)
        if metadata["tokenizer.ggml.model"] not in ("gpt2", "llama") or not path.with_suffix(".gguf.inp").exists():
            continue
        tokenizer = tokenizer_from_gguf(metadata)
        texts = path.with_suffix(".gguf.inp").read_text(encoding="utf-8").split(BETWEEN)
        lines = path.with_suffix(".gguf.out").read_text(encoding="utf-8").split("\n")
        for text, line in zip(texts, lines, strict=False):
            assert tokenizer.encode(text) == [int(id) for id in line.split()], (path.name, text)


SPLITTERS = {
    "r50k_base": GPT2,
    "cl100k_base": LLAMA3,
    "o200k_base": GPT4O,
}


@pytest.mark.parametrize("name", SPLITTERS)
def test_the_ids_of_tiktoken(shared_data: Path, name: str) -> None:
    """OpenAI's vocabularies have ranks and no merges: a token is made of the two that its last merge joined."""
    folder = shared_data / "tokenizers-openai"
    ranks = {}
    for line in (folder / f"{name}.tiktoken").read_text(encoding="ascii").splitlines():
        token, rank = line.split()
        ranks[b64decode(token)] = int(rank)
    tokenizer = from_ranks(ranks, SPLITTERS[name])
    vectors = json.loads((folder / "test_vectors.json").read_text(encoding="utf-8"))
    for text, expected in zip(vectors["texts"], vectors["ids"][name], strict=True):
        assert tokenizer.encode(text) == expected, text


def from_ranks(ranks: dict[bytes, int], expression: str) -> Tokenizer:
    character_of = byte_characters()
    spelled = {token: "".join(character_of[byte] for byte in token) for token in ranks}
    merges = []
    for token, rank in ranks.items():
        if len(token) > 1:
            left, right = last_merge(token, rank, ranks)
            merges.append((rank, (spelled[left], spelled[right])))
    vocab = {spelled[token]: rank for token, rank in ranks.items()}
    pipeline = Pipeline(models.BPE(vocab, [pair for _, pair in sorted(merges)], ignore_merges=True))
    pipeline.pre_tokenizer = splitting(Splitter(expressions=(expression,)))
    pipeline.decoder = decoders.ByteLevel()
    return Tokenizer(pipeline.to_str())


def last_merge(token: bytes, rank: int, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(parts[place] + parts[place + 1], rank) for place in range(len(parts) - 1)]
        best = min(range(len(pairs)), key=pairs.__getitem__)
        assert pairs[best] < rank
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]
