"""Files that hold a model."""

from ownlm.model.formats.huggingface import read_decoder, write_decoder

__all__ = ["read_decoder", "write_decoder"]
