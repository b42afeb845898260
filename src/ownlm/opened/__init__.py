"""A model opened from its files: to ask, to look into, to write in another format."""

from ownlm.opened.answer import Answer
from ownlm.opened.asked import make_grammar, make_request, make_sampling
from ownlm.opened.convert import Converted, convert
from ownlm.opened.describe import describe, tensor_rows
from ownlm.opened.embedder import Embedder, is_embedder, load_embedder
from ownlm.opened.files import ModelFiles, read_files
from ownlm.opened.model import Model, load
from ownlm.opened.outline import EmbedderOutline, Outline, read_embedder_outline, read_outline

__all__ = [
    "Answer",
    "Converted",
    "Embedder",
    "EmbedderOutline",
    "Model",
    "ModelFiles",
    "Outline",
    "convert",
    "describe",
    "is_embedder",
    "load",
    "load_embedder",
    "make_grammar",
    "make_request",
    "make_sampling",
    "read_embedder_outline",
    "read_files",
    "read_outline",
    "tensor_rows",
]
