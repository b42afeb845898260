"""One small file a family: how its config.json and tensor names map onto the one decoder."""

from ownlm.model.families.registry import Family, family_of

__all__ = ["Family", "family_of"]
