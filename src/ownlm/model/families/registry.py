"""Which family a config.json is of."""

from collections.abc import Mapping
from typing import Any, Protocol

from ownlm.errors import OwnlmError
from ownlm.model.config import DecoderConfig
from ownlm.model.families import qwen3


class Family(Protocol):
    """What a family's file offers. Tensor names are Hugging Face's on both sides so far."""

    MODEL_TYPE: str

    def read_config(self, fields: Mapping[str, Any]) -> DecoderConfig: ...

    def write_config(self, config: DecoderConfig) -> dict[str, Any]: ...


_FAMILIES: dict[str, Family] = {qwen3.MODEL_TYPE: qwen3}


def family_of(fields: Mapping[str, Any]) -> Family:
    """The family that config.json's `model_type` names."""
    name = fields.get("model_type")
    if name not in _FAMILIES:
        known = ", ".join(sorted(_FAMILIES))
        raise OwnlmError(f"config.json is of model_type {name!r}, which ownlm does not open yet; it opens: {known}")
    return _FAMILIES[name]
