"""card.json: how an artefact was made, and the sha256 of every file in it.

In:  an artefact folder. Out: its Card, checked for form (not for content: see folder.verify_artefact).
A card holds relative names only, never a path of somebody's home.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ownlm.artefact.read import read_text
from ownlm.errors import DamagedError, OwnlmError

CARD_NAME = "card.json"
CARD_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Card:
    """What card.json says. `files` maps a relative name to {"sha256": hex, "bytes": int}."""

    kind: str
    created: str
    how: dict[str, Any]
    inputs: dict[str, str]
    figures: dict[str, Any]
    versions: dict[str, str]
    machine: dict[str, Any]
    files: dict[str, dict[str, Any]]
    ownlm_card: int = CARD_VERSION
    content: str = ""

    def to_json(self) -> str:
        return json.dumps(vars(self), indent=2, ensure_ascii=False) + "\n"


def content_hash(files: dict[str, dict[str, Any]]) -> str:
    """One sha256 over every file's name and hash: equal hashes mean equal content, whenever it was made."""
    listing = "".join(f"{files[name]['sha256']}  {name}\n" for name in sorted(files))
    return hashlib.sha256(listing.encode()).hexdigest()


def read_card(folder: Path, kind: str | None = None) -> Card:
    """The card of `folder`; OwnlmError when there is none or it is of another kind than `kind`."""
    if not folder.is_dir():
        raise OwnlmError(f"no such folder: {folder}; check the spelling, or make it first")
    path = folder / CARD_NAME
    if not path.is_file():
        raise OwnlmError(f"{folder} has no {CARD_NAME}, so it is no finished ownlm artefact; make it anew")
    fix = "restore it or make the artefact anew"
    text = read_text(path, fix=fix)
    try:
        card = Card(**json.loads(text))
        expected = content_hash(card.files)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged ({error}); {fix}") from None
    texts, tables = (card.kind, card.created), (card.how, card.inputs, card.figures, card.versions, card.machine)
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(table, dict) for table in tables):
        raise DamagedError(f"{path} is damaged (its fields are of other types); {fix}")
    if card.content != expected:
        raise DamagedError(f"{path} is damaged: its content hash does not fit its files; make the artefact anew")
    if kind is not None and card.kind != kind:
        raise OwnlmError(f"{folder} is a {card.kind}, but a {kind} is wanted here; name another folder")
    return card
