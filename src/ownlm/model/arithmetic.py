"""What a model computes in: its file's 4-bit blocks, bfloat16 or float32.

In:  what the user asked for, the file's types, the device. Out: the type of matrices, and whether blocks are kept.

    nothing asked for         blocks of 4 bits (GGUF's Q4_0, Q4_1) where the file has them and the processor reads them
                              fast, with bfloat16 activations; else float32
    dtype="auto"              the same, but bfloat16 instead of float32 where products of it are fast
    dtype="float32" ...       matrices of that type; what is quantised is dequantised. "float32" is the reference.
    quantize="blocks"         blocks, or a line that says why not
    quantize="none"           no blocks

Only where it is asked for is a model computed in less than its file holds: it may be saved again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from ownlm.errors import OwnlmError
from ownlm.machine import has_fast_bfloat16, instruction_sets
from ownlm.model.checkpoint import StoredTensor

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Quantize = Literal["blocks", "none"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CHOICES = ("blocks", "none")
# torch has its 4-bit kernel for these; elsewhere it computes the same, but slower than the dense product.
_KERNELS = {"AVX2", "AVX-512"}


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """`dtype` is that of matrices that are not in blocks."""

    dtype: torch.dtype
    keep_blocks: bool = False


def choose_arithmetic(
    tensors: Mapping[str, StoredTensor], *, device: str, dtype: str | None = None, quantize: str | None = None
) -> Arithmetic:
    """A wrong word, or two wishes that exclude each other, are refused."""
    if dtype not in (None, "auto", *_DTYPES):
        raise OwnlmError(f"dtype is one of auto, {', '.join(_DTYPES)}, got {dtype!r}")
    if quantize not in (None, *_CHOICES):
        raise OwnlmError(f"quantize is one of {', '.join(_CHOICES)}, got {quantize!r}")
    kind = torch.device(device).type
    in_blocks = any(tensor.read_blocks is not None for tensor in tensors.values())
    if quantize == "blocks":
        _check_blocks(dtype, kind, in_blocks)
        return Arithmetic(dtype=torch.float32, keep_blocks=True)
    if dtype in _DTYPES:
        return Arithmetic(dtype=_DTYPES[dtype])
    if quantize is None and kind == "cpu" and in_blocks and not _KERNELS.isdisjoint(instruction_sets()):
        return Arithmetic(dtype=torch.float32, keep_blocks=True)
    fast = kind == "cuda" or (kind == "cpu" and has_fast_bfloat16())
    return Arithmetic(dtype=torch.bfloat16 if dtype == "auto" and fast else torch.float32)


def _check_blocks(dtype: str | None, device: str, in_blocks: bool) -> None:
    if dtype in _DTYPES:
        raise OwnlmError("quantize='blocks' settles what is computed in; leave dtype out")
    if device != "cpu":
        raise OwnlmError(f"quantize='blocks' is for the processor, not {device}; add device='cpu' or leave it out")
    if not in_blocks:
        raise OwnlmError(
            "quantize='blocks' needs a GGUF file with tensors of type Q4_0 or Q4_1, and here is none; leave it out, "
            "or write such a file with `ownlm convert`"
        )
