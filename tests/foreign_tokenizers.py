"""Small tokenizers as other models have them, made here with `tokenizers`."""

import argparse
import inspect
import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Pipeline

from ownlm.tokenizer.compression import SAMPLES
from ownlm.tokenizer.gguf_splitters import LLAMA3

TEXTS = [*SAMPLES.values(), inspect.getsource(argparse)[:40_000]]
SPECIAL = ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|end|>"]


def byte_level() -> Pipeline:
    """As Llama 3's: whole words first, BOS by the post-processor, one added token that is not special."""
    pipeline = Pipeline(models.BPE(ignore_merges=True))
    pipeline.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pipeline.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, show_progress=False, special_tokens=SPECIAL
    )
    pipeline.train_from_iterator(TEXTS, trainer)
    pipeline.add_tokens([AddedToken("<think>", normalized=False)])
    begin = pipeline.token_to_id("<s>")
    pipeline.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin)])
    return pipeline


def sentencepiece() -> Pipeline:
    """As Llama 2's: spaces as "▁" with one in front, bytes for what no piece holds, the unknown token."""
    pipeline = Pipeline(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    pipeline.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    names = ["<unk>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=names, show_progress=False, max_token_length=8)
    pipeline.train_from_iterator([word + " " for text in TEXTS for word in text.split()], trainer)
    description = json.loads(pipeline.to_str())
    # Bytes are ordinary tokens: only the trainer wanted them to be special.
    description["added_tokens"] = [
        token for token in description["added_tokens"] if not token["content"].startswith("<0x")
    ]
    pipeline = Pipeline.from_str(json.dumps(description))
    undone = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    pipeline.decoder = decoders.Sequence(undone)
    return pipeline


def unigram() -> Pipeline:
    """As XLM-R's and T5's: the special tokens are pieces like others, with a score."""
    pieces = [("<unk>", 0.0), *((name, 0.0) for name in SPECIAL), ("▁", -3.0)]
    pieces += [(character, -4.0) for character in "abcdefghijklmnopqrstuvwxyz<>|/"] + [("▁the", -2.0), ("end", -2.5)]
    pipeline = Pipeline(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    pipeline.pre_tokenizer = pre_tokenizers.Metaspace()
    pipeline.decoder = decoders.Metaspace()
    pipeline.add_special_tokens(["<unk>", *SPECIAL])
    return pipeline


def write_folder(folder: Path, pipeline: Pipeline, **files: Any) -> Path:
    """A model folder's tokenizer: tokenizer.json, and other files by name without suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(pipeline.to_str(), encoding="utf-8")
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


CONFIG = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": None, "tokenizer_class": "PreTrainedTokenizerFast"}
