"""A training run's folder as an artefact: begun with one recipe, finished as a model folder.

While it trains it holds run.json, events.jsonl, checkpoints/ ...; when it ends the model's own files join
them and card.json seals those, so the folder opens in transformers as any model does.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from ownlm.artefact import read_events, seal_folder, write_atomically
from ownlm.artefact.card import CARD_NAME
from ownlm.artefact.recipe import to_yaml
from ownlm.errors import OwnlmError
from ownlm.model import Decoder
from ownlm.model.formats.huggingface import GENERATION_CONFIG
from ownlm.model.load import to_checkpoint
from ownlm.model.locate import is_path
from ownlm.model.lora import LoraAdapter
from ownlm.opened.files import ModelFiles
from ownlm.opened.surgery import CHATML
from ownlm.opened.write import write_folder, write_tokenizer
from ownlm.train.config import Plan

RECIPE, README = "recipe.yaml", "README.md"
_FIRST_README = "made with ownlm\n\ncard.json says from what and how.\n"
# Fields that say a place, as far as their text is one.
_PLACES = ("tokens", "tokenizer", "model", "out", "conversations", "documents", "replay", "chat_template")


def is_finished(run: Path) -> bool:
    return (run / CARD_NAME).is_file()


def is_planned(run: Path) -> bool:
    """Until the plan stands nothing is decided."""
    return (run / "run.json").is_file()


def begin(run: Path, recipe: Any) -> None:
    """Note the recipe in a new run's folder; in one that has begun refuse any other recipe."""
    path = run / RECIPE
    text = to_yaml(_with_relative_folders(recipe, run))
    if path.is_file():
        if path.read_text(encoding="utf-8") == text:
            return
        # Before, a mistyped recipe may be mended.
        if is_planned(run):
            raise OwnlmError(
                f"{run} holds a run begun with another recipe ({path.name}); go on with that one by its own options, "
                "or begin anew with another --out"
            )
    elif run.is_dir() and any(child.name != ".lock" for child in run.iterdir()):
        raise OwnlmError(f"{run} is not empty and holds no run; name another --out")
    run.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)


def _with_relative_folders(recipe: Any, run: Path) -> Any:
    """Folders as seen from `run`: the run may be moved, and its sealed recipe names nobody's home."""
    texts = {entry.name: getattr(recipe, entry.name) for entry in fields(recipe) if entry.name in _PLACES}
    return replace(recipe, **{name: as_seen_from(run, text) for name, text in texts.items() if isinstance(text, str)})


def as_seen_from(run: Path, text: str) -> str:
    return os.path.relpath(text, run) if is_path(text) and text != CHATML else text


def finish(
    run: Path,
    files: ModelFiles,
    model: Decoder,
    *,
    plan: Plan,
    inputs: Mapping[str, str],
    figures: Mapping[str, Any],
) -> None:
    """Write the model's files beside the run's record and seal them. `files`: what goes along."""
    names = write_folder(run, to_checkpoint(model), files)
    _seal(run, files.kind, names, plan=plan, inputs=inputs, figures=figures)


def finish_adapter(
    run: Path,
    files: ModelFiles,
    adapter: LoraAdapter,
    *,
    base: str,
    plan: Plan,
    inputs: Mapping[str, str],
    figures: Mapping[str, Any],
) -> None:
    """Write the adapter, in PEFT's form and with the tokenizer, and seal it. `base`: the MODEL that it is for."""
    names = [*adapter.save(run, base=base), *write_tokenizer(run, files), GENERATION_CONFIG]
    # What ends an answer may be the chat template's alone, or only its base's files may tell.
    write_atomically(run / GENERATION_CONFIG, json.dumps({"eos_token_id": list(files.end_ids)}) + "\n")
    _seal(run, "adapter", names, plan=plan, inputs=inputs, figures=figures)


def _seal(
    run: Path, kind: str, names: Sequence[str], *, plan: Plan, inputs: Mapping[str, str], figures: Mapping[str, Any]
) -> None:
    write_atomically(run / README, f"# A {kind} {_FIRST_README}")
    names = [*names, README, "run.json", RECIPE]
    seal_folder(run, kind, how=asdict(plan), inputs=inputs, figures={**run_figures(run), **figures}, names=names)


def is_first_readme(run: Path) -> bool:
    """Is the README.md still the one that sealing wrote?"""
    path = run / README
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace").endswith(_FIRST_README)


def last_validation(run: Path) -> dict[str, Any]:
    """What was seen at the last look at held-out data."""
    seen = [event for event in read_events(run / "events.jsonl") if event["event"] == "validation"]
    return {"loss": seen[-1]["loss"]}


def run_figures(run: Path) -> dict[str, Any]:
    """Time and energy of the run's steps; what was lost behind a checkpoint by a crash is not in it."""
    last: dict[str, Any] = {}
    for event in read_events(run / "events.jsonl"):
        if event["event"] == "step":
            last = event
    kept = ("tokens", "seconds", "watt_hours", "energy_source", "loss")
    return {name: last[name] for name in kept if name in last}
