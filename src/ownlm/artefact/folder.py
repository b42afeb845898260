"""Artefact folders: written whole, hashed, renamed into place; verified when read.

    draft (temporary, beside the final place)  ──hash──▶ card.json ──fsync──▶ rename ──▶ final folder

torch.save, safetensors and DCP all load a flipped bit in silence: the hashes here do not.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ownlm.artefact.card import CARD_NAME, Card, content_hash, read_card
from ownlm.artefact.read import read_errors
from ownlm.artefact.versions import machine_facts, package_versions
from ownlm.artefact.write import (
    OTHER_PLACE,
    disk_errors,
    fsync_file,
    fsync_folder,
    refuse_unfit_name,
    remove_abandoned,
    write_atomically,
)
from ownlm.errors import DamagedError, OwnlmError

# Listed, but a person may edit it after the fact, or take it away: the model card's prose.
EDITABLE = frozenset({"README.md"})
DRAFT = ".draft"


@dataclass(kw_only=True)
class Draft:
    """An artefact while it is being made: write files under `path`, figures into `figures`.

    At the end `moved` says where what stood in its place is now, if anything did.
    """

    path: Path
    figures: dict[str, Any] = field(default_factory=dict)
    moved: Path | None = None


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def write_artefact(
    final: Path,
    kind: str,
    *,
    how: Mapping[str, Any],
    inputs: Mapping[str, str] | None = None,
    force: bool = False,
    fix: str = OTHER_PLACE,
    taken: str = "name another --out, or add --force to move it aside",
) -> Iterator[Draft]:
    """Make the artefact `final` of `kind`: all of it appears at once, or nothing does.

    `how` is the configuration that made it, `inputs` the content hashes of what it was made from.
    An existing folder is never overwritten: OwnlmError, or with `force` it is moved aside. `fix` is what a user
    can do about a full disk, `taken` about a folder that is there.
    """
    refuse_unfit_name(final)
    temporary = final.with_name(draft_name(final))
    with disk_errors(final, fix=fix):
        if final.exists() and not force:
            raise OwnlmError(f"{final} exists already; {taken}")
        final.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(final, DRAFT)
        temporary.mkdir()
        draft = Draft(path=temporary)
        started = time.perf_counter()
        try:
            yield draft
            draft.figures.setdefault("seconds", round(time.perf_counter() - started, 2))
            seal_folder(temporary, kind, how=how, inputs=inputs, figures=draft.figures)
            draft.moved = move_aside(final)
            temporary.rename(final)
            fsync_folder(final.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def write_whole(final: Path, *, force: bool, fix: str, other: str) -> Iterator[Draft]:
    """A file or a folder that is no artefact, made at the draft's path: it takes `final`'s place at the end, or nothing
    does. `fix` as for write_artefact; `other`: what to do where another wrote there meanwhile, and `force` is off.
    """
    beside = final.with_name(draft_name(final))
    with disk_errors(final, fix=fix):
        final.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(final, DRAFT)
        beside.mkdir()
        try:
            draft = Draft(path=beside / final.name)
            yield draft
            if final.exists() and not force:
                raise OwnlmError(f"{final} was written by another meanwhile, and is kept; {other}")
            draft.moved = move_aside(final)
            draft.path.replace(final)
            fsync_folder(final.parent)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def verify_artefact(folder: Path, kind: str | None = None) -> Card:
    """The card, after every file was hashed and found to be what the card says."""
    card = read_card(folder, kind)
    for name, facts in card.files.items():
        path = folder / name
        if name in EDITABLE:
            continue
        with read_errors(path):
            if not path.is_file():
                raise DamagedError(f"{path} is missing; restore it, or make {folder.name} anew")
            if file_sha256(path) != facts["sha256"]:
                raise DamagedError(
                    f"{path} is damaged (its sha256 is not the one in {CARD_NAME}); restore it, or make it anew"
                )
    return card


def seal_folder(
    folder: Path,
    kind: str,
    *,
    how: Mapping[str, Any],
    inputs: Mapping[str, str] | None = None,
    figures: Mapping[str, Any] | None = None,
    names: Sequence[str] | None = None,
) -> Card:
    """Write the card of `folder` over its files, or over `names` alone; from then on it is an artefact."""
    chosen = names or [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    files = {}
    for name in sorted(chosen):
        path = folder / name
        fsync_file(path)
        files[name] = {"sha256": file_sha256(path), "bytes": path.stat().st_size}
    card = Card(
        kind=kind,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        how=dict(how),
        inputs=dict(inputs or {}),
        figures=dict(figures or {}),
        versions=package_versions(),
        machine=machine_facts(),
        files=files,
        content=content_hash(files),
    )
    write_atomically(folder / CARD_NAME, card.to_json())
    return card


def draft_name(final: Path) -> str:
    """What a killed process leaves under this name the next write to `final` removes: see remove_abandoned."""
    return f".{final.name}.{os.getpid()}{DRAFT}"


def move_aside(final: Path) -> Path | None:
    """What is at `final` makes room: now at NAME.old, NAME.old2, ...; None where nothing was."""
    if not final.exists():
        return None
    number = 1
    while (aside := final.with_name(f"{final.name}.old{number if number > 1 else ''}")).exists():
        number += 1
    final.rename(aside)
    return aside
