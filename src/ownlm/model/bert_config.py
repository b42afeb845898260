"""A BERT's config.json: what it must say, and what it must not.

Not one of families/: those map onto the one decoder, and a BERT reads in both directions and writes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.model.checks import choice, number, shown, whole
from ownlm.model.families.registry import BERT, CONFIG_FIX
from ownlm.model.feed_forward import ACTIVATIONS

# transformers' own, for what a file leaves out.
_DEFAULTS: dict[str, Any] = {
    "vocab_size": 30_522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
# Fields that change what is computed, and the value at which they change nothing.
_CHANGES = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
_CLASSIFIER = "BertForSequenceClassification"


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """`num_labels`: outputs of the head of a classifier, such as the one of a cross-encoder; None without a head.

    `dimensions`: to which an embedding may be cut, as its makers say; empty: to none. `sigmoid`: is a cross-encoder's
    score put between 0 and 1?
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    hidden_act: str
    layer_norm_eps: float
    num_labels: int | None
    dimensions: range | tuple[int, ...]
    sigmoid: bool


def read_bert_config(fields: Mapping[str, Any]) -> BertConfig:
    try:
        return _read(fields)
    except OwnlmError as error:
        raise type(error)(f"{error}; {CONFIG_FIX}") from None


def check_head(config: BertConfig) -> None:
    """A classifier with one output is a cross-encoder; others say of which of their classes a text is."""
    if config.num_labels not in (None, 1):
        raise OwnlmError(
            f"it is a classifier of {config.num_labels} classes, which ownlm does not use; take an embedding model, or "
            "a cross-encoder, which has one output"
        )


def _read(fields: Mapping[str, Any]) -> BertConfig:
    if fields.get("model_type") != BERT:
        raise OwnlmError(
            f"the model_type is {shown(fields.get('model_type'))}, which ownlm does not open as an embedding model; "
            f"it opens: {BERT}"
        )
    for name, harmless in _CHANGES.items():
        if fields.get(name) not in (None, harmless):
            raise OwnlmError(f"{name} is {shown(fields[name])}, which ownlm does not compute for {BERT}")
    sizes = {name: whole(name, fields.get(name, default)) for name, default in _DEFAULTS.items()}
    if sizes["hidden_size"] % sizes["num_attention_heads"]:
        raise OwnlmError(
            f"hidden_size ({sizes['hidden_size']}) must be a multiple of num_attention_heads "
            f"({sizes['num_attention_heads']})"
        )
    architectures = fields.get("architectures")
    return BertConfig(
        **sizes,
        hidden_act=choice("hidden_act", fields.get("hidden_act", "gelu"), ACTIVATIONS),
        layer_norm_eps=number("layer_norm_eps", fields.get("layer_norm_eps", 1e-12), most=1),
        num_labels=_labels(fields) if architectures == [_CLASSIFIER] else None,
        dimensions=_dimensions(fields, sizes["hidden_size"]),
        sigmoid=_sigmoid(fields),
    )


def _labels(fields: Mapping[str, Any]) -> int:
    named = fields.get("id2label")
    return len(named) if isinstance(named, dict) and named else whole("num_labels", fields.get("num_labels", 2))


def _dimensions(fields: Mapping[str, Any], size: int) -> range | tuple[int, ...]:
    """vLLM's names for what a model that was trained to be cut says of itself (arXiv:2205.13147)."""
    named = fields.get("matryoshka_dimensions")
    if named:
        if not isinstance(named, list):
            raise OwnlmError(f"matryoshka_dimensions must be a list, got {shown(named)}")
        return tuple(sorted({whole("matryoshka_dimensions", one, most=size) for one in named} | {size}))
    return range(1, size + 1) if fields.get("is_matryoshka") is True else ()


def _sigmoid(fields: Mapping[str, Any]) -> bool:
    """sentence-transformers' names, the new one and the old; where there is none, it takes a sigmoid of one label."""
    settings = fields.get("sentence_transformers")
    new = settings.get("activation_fn") if isinstance(settings, dict) else None
    named = new or fields.get("sbert_ce_default_activation_function") or "Sigmoid"
    kind = str(named).rpartition(".")[2]
    if kind not in ("Sigmoid", "Identity"):
        raise OwnlmError(f"a score's activation is {shown(named)}, which ownlm does not compute")
    return kind == "Sigmoid"
