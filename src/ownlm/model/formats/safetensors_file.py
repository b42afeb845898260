"""One safetensors file: its tensors, each read when it is asked for; and writing one, whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ownlm.artefact import disk_errors, read_errors
from ownlm.artefact.write import OTHER_PLACE
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.checkpoint import StoredTensor

# The format's own names, and how many bytes a number takes.
STORED_AS = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
_REMAP_BYTES = 64_000_000
BYTES = {"F32": 4, "BF16": 2, "F16": 2, "F64": 8}


def open_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of `path` by name. Only the header is read, which the library checks against the file's size."""
    try:
        with read_errors(path):
            file = _Mapped(path)
            return {name: file.stored(name) for name in file.names}
    except (SafetensorError, ValueError) as error:
        raise _damaged(path, error) from None


class _Mapped:
    """A file mapped into memory for as long as a tensor of it may be asked for.

    Pages that were read count as this process's memory until the mapping ends, so it is made anew now and then:
    else a model would seem to be there twice while it is opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: Any = safe_open(path, framework="pt", device="cpu")
        self.names: list[str] = self.file.keys()  # type: ignore[no-untyped-call]
        self.bytes_read = 0

    def stored(self, name: str) -> StoredTensor:
        part = self.file.get_slice(name)
        kind = part.get_dtype()
        return StoredTensor(shape=tuple(part.get_shape()), stored_as=kind, read=lambda: self._read(name, kind))

    def _read(self, name: str, kind: str) -> Tensor:
        if kind not in STORED_AS.values():
            known = ", ".join(STORED_AS.values())
            raise OwnlmError(f"{self.path}: {name} is stored as {kind}, which ownlm does not read; it reads {known}")
        try:
            if self.bytes_read > _REMAP_BYTES:
                self.file, self.bytes_read = safe_open(self.path, framework="pt", device="cpu"), 0
            tensor: Tensor = self.file.get_tensor(name)
        except (SafetensorError, OSError, ValueError) as error:
            raise _damaged(self.path, error) from None
        self.bytes_read += tensor.nbytes
        return tensor


def _damaged(path: Path, error: Exception) -> DamagedError:
    return DamagedError(f"{path} is damaged ({error}); restore it, or fetch or train the model anew")


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """A safetensors file, whole or not there; a full disk is one line."""
    temporary = path.with_name(f".{path.name}.tmp")
    with disk_errors(path):
        try:
            save_file(tensors, temporary, metadata={"format": "pt"})
            # The library makes its files unreadable to others: give this one the permissions of any new file.
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
            temporary.replace(path)
        except SafetensorError as error:
            raise OwnlmError(f"cannot write {path} ({error}); {OTHER_PLACE}") from None
        finally:
            temporary.unlink(missing_ok=True)
