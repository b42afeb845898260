"""Corpus to chat model in a second or two, by the stages themselves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ownlm.corpus.make_tokenizer import TokenizerConfig, make_tokenizer
from ownlm.corpus.shards import write_tokens
from ownlm.model import ModelShape
from ownlm.train import FinetuneRecipe, LoraTuning, PretrainRecipe, TrainConfig, TuneConfig, finetune, pretrain
from ownlm.train.config import TuneOptimizerConfig
from tiny_models import make_conversations, make_corpus

SHAPE = ModelShape(
    depth=2, hidden_size=64, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=96
)
QUESTIONS = [
    ("What does len do?", "It returns the number of items."),
    ("Who are you?", "A small model."),
    ("What is 3 + 4?", "It is 7."),
]


def train_config(**changes: Any) -> TrainConfig:
    fields: dict[str, Any] = {
        "steps": 4,
        "rows": 4,
        "context": 64,
        "precision": "float32",
        "compile": "never",
        "evaluations": 1,
        "samples": 1,
        "snapshots": 2,
    }
    return TrainConfig(**(fields | changes))


def tune_config(**changes: Any) -> TuneConfig:
    fields: dict[str, Any] = {
        **vars(train_config()),
        "optimizer": TuneOptimizerConfig(
            matrix_optimizer="muon", matrix_learning_rate=0.02, learning_rate=0.01, embedding_learning_rate=0.012
        ),
    }
    return TuneConfig(**(fields | changes))


def base_recipe(folder: Path, out: Path, **changes: Any) -> PretrainRecipe:
    fields: dict[str, Any] = {
        "tokens": str(folder / "tokens"),
        "tokenizer": str(folder / "tokenizer"),
        "out": str(out),
        "model": SHAPE,
        "train": train_config(),
        "watch": ("The cat",),
        "sample_tokens": 4,
    }
    return PretrainRecipe(**(fields | changes))


def chat_recipe(folder: Path, out: Path, **changes: Any) -> FinetuneRecipe:
    fields: dict[str, Any] = {
        "model": str(folder / "base"),
        "conversations": str(folder / "conversations"),
        "out": str(out),
        # Enough to know three answers by heart.
        "train": tune_config(steps=60, rows=2),
        "ask": ("Who are you?",),
        "answer_tokens": 4,
    }
    return FinetuneRecipe(**(fields | changes))


def lora_recipe(workshop: Path, out: Path, **changes: Any) -> FinetuneRecipe:
    train = tune_config(steps=8, rows=2, optimizer=TuneOptimizerConfig(learning_rate=0.01))
    return replace(chat_recipe(workshop, out), **({"lora": LoraTuning(rank=4, alpha=8.0), "train": train} | changes))


def make(folder: Path) -> Path:
    make_corpus(folder / "corpus")
    make_tokenizer(folder / "corpus", folder / "tokenizer", TokenizerConfig(vocab_size=400))
    write_tokens(folder / "corpus", folder / "tokenizer", folder / "tokens")
    make_conversations(folder / "conversations", QUESTIONS)
    pretrain(base_recipe(folder, folder / "base"))
    finetune(chat_recipe(folder, folder / "chat"))
    return folder
