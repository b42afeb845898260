"""Which family a config.json is of."""

from collections.abc import Mapping
from typing import Any, Protocol

from ownlm.errors import OwnlmError
from ownlm.model.checks import shown
from ownlm.model.config import DecoderConfig
from ownlm.model.families import (
    gemma2,
    gemma3,
    gpt2,
    gpt_neox,
    granite,
    llama,
    mistral,
    olmo2,
    phi3,
    qwen2,
    qwen3,
    qwen3_moe,
)
from ownlm.model.families.tensor_map import TensorMap


class Family(Protocol):
    """What a family's file offers: its config.json both ways, and how its tensors are stored."""

    MODEL_TYPE: str
    TENSORS: TensorMap

    def read_config(self, fields: Mapping[str, Any]) -> DecoderConfig: ...

    def write_config(self, config: DecoderConfig) -> dict[str, Any]: ...


_ALL: tuple[Family, ...] = (
    gemma2,
    gemma3,
    gpt2,
    gpt_neox,
    granite,
    llama,
    mistral,
    olmo2,
    phi3,
    qwen2,
    qwen3,
    qwen3_moe,
)
# An encoder, which is no family of the decoder; bert.py has it.
BERT = "bert"
# The checks of a configuration say what is wrong with it: they know neither file nor format.
CONFIG_FIX = "fetch the model anew, or take another one"
# By config.json's `model_type`.
FAMILIES: dict[str, Family] = {**{family.MODEL_TYPE: family for family in _ALL}, "gemma3": gemma3}


def read_config(fields: Mapping[str, Any]) -> DecoderConfig:
    """The decoder's configuration that a model's files ask for."""
    family = family_of(fields)
    try:
        return family.read_config(fields)
    except OwnlmError as error:
        raise type(error)(f"{error}; {CONFIG_FIX}") from None


def family_of(fields: Mapping[str, Any]) -> Family:
    """The family that config.json's `model_type` names."""
    name = fields.get("model_type")
    if name == BERT:
        raise OwnlmError(
            f"the model_type is {BERT}: an embedding model, which writes no text; ownlm.load_embedder opens it, and "
            "`ownlm serve` answers with it"
        )
    if not isinstance(name, str) or name not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise OwnlmError(f"the model_type is {shown(name)}, which ownlm does not open yet; it opens: {known}")
    return FAMILIES[name]
