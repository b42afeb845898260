"""One small file a family: how its config.json and tensors map onto the one decoder."""

from ownlm.model.families.registry import FAMILIES, Family, family_of, read_config
from ownlm.model.families.tensor_map import Rule, TensorMap

__all__ = ["FAMILIES", "Family", "Rule", "TensorMap", "family_of", "read_config"]
