"""A model opened from its files: to ask, to look into, to write in another format."""

from ownlm.opened.answer import Answer
from ownlm.opened.asked import make_grammar, make_request, make_sampling
from ownlm.opened.convert import Converted, convert
from ownlm.opened.describe import describe, tensor_rows
from ownlm.opened.embedder import Embedder, is_embedder, load_embedder
from ownlm.opened.files import ModelFiles, read_files
from ownlm.opened.model import Model, load

__all__ = [
    "Answer",
    "Converted",
    "Embedder",
    "Model",
    "ModelFiles",
    "convert",
    "describe",
    "is_embedder",
    "load",
    "load_embedder",
    "make_grammar",
    "make_request",
    "make_sampling",
    "read_files",
    "tensor_rows",
]
