"""A model's files as one thing, whatever their format: Hugging Face's fields, and tensors by Hugging Face's names.

Formats read into it and write from it; families map it onto the one decoder. So a format knows no family's
decoder, and a family no format.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

# Numbers of a block of GGUF's 4-bit types, which share a scale and a minimum.
GROUP = 32


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A tensor of 4 bits a number, laid out as the tensor is: level * scale + minimum, with a scale and a minimum for
    each 32 levels of the last dimension (of the first, where the tensor is stored transposed).
    """

    levels: Tensor  # uint8, 0 to 15
    scales: Tensor  # float32
    minima: Tensor


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """Shape as the tensor will be read, the name of how it is stored ("F32", "BF16", "Q4_1" ...), and the reader.

    `fresh`: every reading is memory of its own, which may be kept and changed; others may be a file's.
    `read_blocks` is for what is stored in 4 bits and may be computed with as it is.
    """

    shape: tuple[int, ...]
    stored_as: str
    read: Callable[[], Tensor]
    fresh: bool = False
    read_blocks: Callable[[], Blocks] | None = None


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """`fields` is a config.json, `generation` a generation_config.json; a tensor is read when it is asked for."""

    fields: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    generation: Mapping[str, Any] = field(default_factory=dict)
