"""One safetensors file: its tensors, each read when it is asked for; and writing one, whole or not at all."""

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ownlm.artefact import disk_errors
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.checkpoint import StoredTensor

# The format's own names, and how many bytes a number takes.
STORED_AS = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}
BYTES = {"F32": 4, "BF16": 2, "F16": 2, "F64": 8}


def open_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of `path` by name. Only the header is read, which the library checks against the file's size."""
    try:
        # Open for as long as a tensor may be asked for: the readers hold it.
        file = safe_open(path, framework="pt", device="cpu")
        names: list[str] = file.keys()  # type: ignore[no-untyped-call]
        return {name: _stored(path, file, name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _stored(path: Path, file: Any, name: str) -> StoredTensor:
    part = file.get_slice(name)
    kind = part.get_dtype()

    def read() -> Tensor:
        if kind not in STORED_AS.values():
            known = ", ".join(STORED_AS.values())
            raise OwnlmError(f"{path}: {name} is stored as {kind}, which ownlm does not read; it reads {known}")
        try:
            tensor: Tensor = file.get_tensor(name)
        except (SafetensorError, OSError, ValueError) as error:
            raise _damaged(path, error) from None
        return tensor

    return StoredTensor(shape=tuple(part.get_shape()), stored_as=kind, read=read)


def _damaged(path: Path, error: Exception) -> DamagedError:
    return DamagedError(f"{path} is damaged ({error}); restore it or train again")


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
            raise OwnlmError(f"cannot write {path} ({error}); free some space or name another --out") from None
        finally:
            temporary.unlink(missing_ok=True)
