"""Checkpoints: everything that a run needs to go on bit for bit, and snapshots to look back.

    checkpoints/step-000250/   model.safetensors  optimizer.safetensors  state.json  card.json (hashes)
    snapshots/step-000250.safetensors            weights alone, bfloat16

The last two checkpoints are kept: should the newest be damaged, the one before is named.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from ownlm.artefact import verify_artefact, write_artefact
from ownlm.errors import DamagedError
from ownlm.model.formats.safetensors_file import save_tensors
from ownlm.model.weights import load_weights, save_weights
from ownlm.train.optim import Optimizers

KEPT = 2


def save_checkpoint(run: Path, step: int, model: nn.Module, optimizers: Optimizers, state: dict[str, Any]) -> None:
    """Write the state after `step` steps; it appears whole or not at all."""
    folder = run / "checkpoints" / _name(step)
    if not folder.exists():
        tensors, plain = _flatten(optimizers.state_dict())
        with write_artefact(folder, "checkpoint", how={"step": step}) as draft:
            save_weights(draft.path / "model.safetensors", model)
            save_tensors(draft.path / "optimizer.safetensors", tensors)
            state = {"step": step, "optimizer": plain, "torch_rng": torch.get_rng_state().tolist(), **state}
            (draft.path / "state.json").write_text(json.dumps(state), encoding="utf-8")
    # The run's lock is held: a draft that is left is one of a process that was killed.
    for old in [*checkpoints(run)[:-KEPT], *(run / "checkpoints").glob(".step-*.draft")]:
        shutil.rmtree(old)


def checkpoints(run: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted((run / "checkpoints").glob("step-*"))


def load_checkpoint(folder: Path, model: nn.Module, optimizers: Optimizers, *, device: torch.device) -> dict[str, Any]:
    """Put the state in `folder` back, after checking every byte of it; returns state.json's fields."""
    try:
        verify_artefact(folder, "checkpoint")
    except DamagedError as error:
        raise DamagedError(f"{error}; delete {folder} to go on from the checkpoint before it") from None
    load_weights(folder / "model.safetensors", model)
    state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / "optimizer.safetensors", device=str(device))
    optimizers.load_state_dict(_unflatten(tensors, state["optimizer"]))
    torch.set_rng_state(torch.tensor(state["torch_rng"], dtype=torch.uint8))
    return state


def snapshot_steps(steps: int, count: int) -> set[int]:
    """About `count` steps from the first to the last, spaced by the logarithm: early learning is fast."""
    if count < 1:
        return set()
    return {round(math.exp(math.log(steps) * index / max(1, count - 1))) for index in range(count)}


def save_snapshot(run: Path, step: int, model: nn.Module) -> None:
    folder = run / "snapshots"
    folder.mkdir(exist_ok=True)
    save_weights(folder / f"{_name(step)}.safetensors", model, dtype=torch.bfloat16)


def snapshots(run: Path) -> dict[int, Path]:
    """The files of a run's snapshots by step, in order."""
    return {
        int(path.stem.removeprefix("step-")): path for path in sorted((run / "snapshots").glob("step-*.safetensors"))
    }


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _flatten(state: dict[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Split optimizer states into tensors, named optimizer/parameter/key, and what JSON can hold."""
    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, Any] = {}
    for part, content in state.items():
        plain[part] = content["param_groups"]
        for parameter, values in content["state"].items():
            for key, tensor in values.items():
                tensors[f"{part}/{parameter}/{key}"] = tensor.contiguous()
    return tensors, plain


def _unflatten(tensors: dict[str, torch.Tensor], plain: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = {part: {"state": {}, "param_groups": groups} for part, groups in plain.items()}
    for name, tensor in tensors.items():
        part, parameter, key = name.split("/")
        state[part]["state"].setdefault(int(parameter), {})[key] = tensor
    return state
