"""The cache: what can be fetched or computed again, in one folder that a user may clear at any time.

    OWNLM_CACHE, else the platform's folder  ──▶  starters/  and whatever else is kept, an entry each

An entry is marked by a CACHEDIR.TAG (bford.info/cachedir), which tells backups to leave it out, and tells
`clear_cache` what is ours: OWNLM_CACHE may name a folder that holds other things.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from ownlm.artefact.lock import folder_lock
from ownlm.artefact.write import disk_errors
from ownlm.errors import OwnlmError

VARIABLE = "OWNLM_CACHE"
CACHE_FIX = f"free some space, or set {VARIABLE} to a folder on another disk"
TAG_NAME = "CACHEDIR.TAG"
_TAG = "Signature: 8a477f597d28d172789f06886e9b2eb0\n# A cache of ownlm: `ownlm doctor --clear-cache` empties it.\n"
_KEPT = frozenset({TAG_NAME, ".lock"})


def cache_folder(environ: Mapping[str, str] | None = None, platform: str = sys.platform) -> Path:
    """Where the cache lies; it need not be there yet."""
    environ = os.environ if environ is None else environ
    if named := environ.get(VARIABLE):
        return Path(named).expanduser().absolute()
    try:
        home = Path.home()
    except RuntimeError:
        raise OwnlmError(f"this user has no home folder to keep a cache in; set {VARIABLE} to a folder") from None
    if platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "ownlm"
    if platform == "darwin":
        return home / "Library" / "Caches" / "ownlm"
    # The specification has a relative XDG_CACHE_HOME ignored.
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else home / ".cache") / "ownlm"


def cache_entry(name: str) -> Path:
    """The entry `name`, made and marked where it is not there yet."""
    entry = cache_folder() / name
    with disk_errors(entry, fix=CACHE_FIX):
        entry.mkdir(parents=True, exist_ok=True)
        if not is_entry(entry):
            filled = any(child.name not in _KEPT for child in entry.iterdir())
            # Looked at again: another process may have marked it meanwhile, and begun to fill it.
            if filled and not is_entry(entry):
                raise OwnlmError(f"{entry} is no cache of ownlm's; set {VARIABLE} to another folder")
            with open(entry / TAG_NAME, "wb", opener=_untruncated) as file:
                file.write(_TAG.encode())
                file.truncate()
    return entry


def _untruncated(path: str, flags: int) -> int:
    """A mark that is there already is whole at every moment."""
    return os.open(path, flags & ~os.O_TRUNC, 0o666)


def is_entry(folder: Path) -> bool:
    try:
        return (folder / TAG_NAME).read_text(encoding="utf-8") == _TAG
    except (OSError, ValueError):
        return False


def cache_sizes() -> dict[str, int]:
    """Bytes of every entry that holds something."""
    sizes = {entry.name: _bytes_in(entry) for entry in _entries()}
    return {name: size for name, size in sizes.items() if size}


def clear_cache() -> int:
    """Empty every entry; returns the bytes freed. The marks stay, for a process may wait at an entry's lock."""
    freed = 0
    for entry in _entries():
        with folder_lock(entry, fix=CACHE_FIX), disk_errors(entry, fix="close what uses it, or remove it by hand"):
            size = _bytes_in(entry)
            for child in entry.iterdir():
                if child.name not in _KEPT:
                    shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()
            freed += size
    return freed


def _entries() -> list[Path]:
    folder = cache_folder()
    return sorted(entry for entry in folder.iterdir() if is_entry(entry)) if folder.is_dir() else []


def _bytes_in(entry: Path) -> int:
    files = (path for path in entry.rglob("*") if path.name not in _KEPT)
    return sum(path.lstat().st_size for path in files if not path.is_dir())
