"""A part of a run, named by its own folder or by the run's."""

from pathlib import Path

from ownlm.artefact.card import CARD_NAME


def corpus_folder(path: Path) -> Path:
    return _part(path, "corpus", CARD_NAME)


def tokenizer_folder(path: Path) -> Path:
    """A model's folder is a tokenizer's as well, so the file decides and not the card."""
    return _part(path, "tokenizer", "tokenizer.json")


def _part(path: Path, name: str, sign: str) -> Path:
    """`path` where it holds the file `sign`; else the folder `name` in it that does."""
    inner = path / name
    return inner if not (path / sign).is_file() and (inner / sign).is_file() else path
