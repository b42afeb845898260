"""Tiny tokenizers, models and artefacts that several test files share; tests/conftest.py puts this on the path."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ownlm.artefact import write_artefact
from ownlm.corpus.document import DOCUMENTS_FILE, Document, write_documents
from ownlm.corpus.shards import TokenDocuments
from ownlm.model import Decoder, DecoderConfig
from ownlm.tokenizer import Tokenizer, train_tokenizer
from ownlm.tokenizer.compression import SAMPLES
from ownlm.train.config import Plan
from ownlm.train.loss import token_loss
from ownlm.train.optim import OptimizerConfig
from ownlm.train.schedule import ScheduleConfig

# Models this small only wait for a second thread.
torch.set_num_threads(1)

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "saw",
    "how",
    "seven",
    "small",
    "dogs",
    "ran",
    "to",
    "their",
    "old",
    "red",
    "house",
    "in",
    "rain",
]
ADAMW = OptimizerConfig(matrix_optimizer="adamw", learning_rate=3e-3, embedding_learning_rate=3e-3, eps=1e-8)


@cache
def tiny_tokenizer() -> Tokenizer:
    return train_tokenizer([*SAMPLES.values(), " ".join(WORDS * 20), "user\nassistant\n" * 9], vocab_size=400)


def tiny_config(**changes: Any) -> DecoderConfig:
    sizes: dict[str, Any] = {
        "vocab_size": tiny_tokenizer().padded_vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
    }
    return DecoderConfig(**(sizes | changes))


def random_decoder(*, seed: int = 0, dtype: torch.dtype = torch.float32, scale: float = 0.3, **changes: Any) -> Decoder:
    """Every parameter random: initialise() leaves some matrices at zero, which would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    model = Decoder(tiny_config(**changes))
    with torch.no_grad():
        for parameter in model.parameters():
            noise = scale * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + noise if parameter.ndim == 1 else noise)
    return model.to(dtype)


def random_ids(count: int, *, seed: int = 0, vocab: int | None = None) -> list[int]:
    """Ids that text could have: no special ones."""
    most = vocab or tiny_tokenizer().vocab_size - 32
    return np.random.default_rng(seed).integers(0, most, count).tolist()


def random_documents(lengths: list[int], *, seed: int = 0, vocab: int | None = None) -> TokenDocuments:
    return TokenDocuments.of(
        [random_ids(length, seed=seed * 1000 + n, vocab=vocab) for n, length in enumerate(lengths)]
    )


def tiny_plan(**changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "steps": 6,
        "rows": 2,
        "micro_rows": 0,
        "context": 16,
        "seed": 0,
        "threads": 1,
        "device": "cpu",
        "precision": "float32",
        "compile": False,
        "compact_loss": False,
        "optimizer": OptimizerConfig(),
        "schedule": ScheduleConfig(warmup=0.2, decay=0.5),
        "evaluations": 2,
        "samples": 0,
        "checkpoint_seconds": 1e9,
        "snapshots": 0,
    }
    return Plan(**(fields | changes))


def token_loss_of(model: Decoder, batch: Any) -> Any:
    return token_loss(model, batch, compact=False)


def make_corpus(out: Path, *, documents: int = 24, seed: int = 0) -> Path:
    """A corpus artefact of nonsense sentences, three of them held out."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, 40)) + ".\n" for _ in range(documents)]
    rows = [
        Document(
            text=text,
            source="folder",
            path=f"{number}.txt",
            kind="text",
            split="validation" if number < 3 else "train",
            slice="text" if number < 3 else "",
        )
        for number, text in enumerate(texts)
    ]
    with write_artefact(out, "corpus", how={"text": "folder"}) as draft:
        write_documents(draft.path / DOCUMENTS_FILE, rows)
        draft.figures["documents"] = len(rows)
    return out


def make_conversations(out: Path, pairs: list[tuple[str, str]]) -> Path:
    with write_artefact(out, "conversations", how={}) as draft:
        for name in ("train", "validation"):
            lines = [
                json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]})
                for q, a in pairs
            ]
            (draft.path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out


def flip_bit(path: Path) -> None:
    """One bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
