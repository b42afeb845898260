"""Files that hold a model."""

from ownlm.model.formats.huggingface import read_checkpoint, write_checkpoint

__all__ = ["read_checkpoint", "write_checkpoint"]
