"""What a model is, from its files alone: no tensor is read.

In:  ModelFiles. Out: a dictionary that `ownlm show` prints and --json gives.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from ownlm.artefact import read_card
from ownlm.artefact.card import CARD_NAME
from ownlm.model import parameters_by_part
from ownlm.model.config import DecoderConfig
from ownlm.model.families import read_config
from ownlm.opened.files import ModelFiles, Template
from ownlm.tokenizer import ModelTemplate

_SHAPE = (
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
)
# Shown where they are set.
_WHERE_SET = ("sliding_window", "rope_theta", "rope_local_base_freq", "num_experts", "num_experts_per_tok")


def describe(files: ModelFiles) -> dict[str, Any]:
    """Family, shape, parameters by part, how they are stored, tokenizer, template, licence, card."""
    config = read_config(files.checkpoint.fields)
    parts = parameters_by_part(config)
    tokenizer = files.tokenizer
    return {
        "name": files.name,
        "place": str(files.place),
        "bytes": _bytes(files.place),
        "family": config.model_type,
        "shape": _shape(config),
        "parameters": {**parts, "total": sum(parts.values())},
        "stored_as": dict(Counter(tensor.stored_as for tensor in files.checkpoint.tensors.values()).most_common()),
        "tokenizer": {
            "kind": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
            "begins_with": [_spelt(files, id) for id in tokenizer.prefix_ids],
            "ends_with": [_spelt(files, id) for id in tokenizer.end_ids],
        },
        "template_characters": _characters(files.template) if files.template else None,
        "licence": files.licence,
        "card": _card(files.place),
    }


def tensor_rows(files: ModelFiles) -> list[dict[str, Any]]:
    """Every tensor by Hugging Face's name, in the file's order."""
    return [
        {"name": name, "shape": list(tensor.shape), "stored_as": tensor.stored_as}
        for name, tensor in files.checkpoint.tensors.items()
    ]


def _shape(config: DecoderConfig) -> dict[str, Any]:
    shape = {name: getattr(config, name) for name in _SHAPE}
    shape |= {name: value for name in _WHERE_SET if (value := getattr(config, name))}
    if config.learned_positions:
        del shape["rope_theta"]
    if config.rope_scaling is not None:
        shape["rope_scaling"] = config.rope_scaling.rope_type
    return shape | {"tie_word_embeddings": config.tie_word_embeddings}


def _characters(template: Template) -> int:
    texts = template.templates.values() if isinstance(template, ModelTemplate) else [template.jinja]
    return sum(map(len, texts))


def _spelt(files: ModelFiles, id: int) -> str:
    return files.tokenizer.token_bytes(id).decode("utf-8", "replace")


def _bytes(place: Path) -> int:
    """Of the file, or of the weights in the folder."""
    if place.is_file():
        return place.stat().st_size
    return sum(path.stat().st_size for path in place.glob("*.safetensors"))


def _card(place: Path) -> dict[str, Any] | None:
    if not (place / CARD_NAME).is_file():
        return None
    card = read_card(place)
    return {"kind": card.kind, "created": card.created, "inputs": card.inputs, "content": card.content}
