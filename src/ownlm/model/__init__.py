"""The decoder, its shapes, and the formats it is kept in."""

from ownlm.model.cache import AttentionCache
from ownlm.model.config import DecoderConfig
from ownlm.model.count import parameter_count, parameters_by_part, training_flops_per_token
from ownlm.model.decoder import Decoder
from ownlm.model.evaluating import evaluating
from ownlm.model.initialise import initialise
from ownlm.model.presets import ModelShape, affordable_depth

__all__ = [
    "AttentionCache",
    "Decoder",
    "DecoderConfig",
    "ModelShape",
    "affordable_depth",
    "evaluating",
    "initialise",
    "parameter_count",
    "parameters_by_part",
    "training_flops_per_token",
]
