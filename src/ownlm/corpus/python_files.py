"""Which Python files are material: the standard library, and the packages that ownlm itself needs.

In:  the running interpreter and the metadata of installed distributions.
Out: the files, each with its source, relative path and licence; how many were left out, by reason.

Nothing else that lies in site-packages is read: it may be private. Extras (dev, bench, hub) are not followed.
"""

import os
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from ownlm.corpus.licences import PYTHON_LICENCE, is_allowed, licence_of

OURSELVES = "ownlm"

_TESTS = frozenset({"test", "tests", "testing", "idle_test", "_tests", "test_data", "benchmarks"})
_VENDORED = frozenset(
    {"_vendor", "_vendored", "vendor", "vendored", "vendored_packages", "extern", "externals", "third_party"}
    # setuptools carries the standard library's distutils.
    | {"_distutils"}
)
# Parts of the standard library's folder that are no library: an editor, a migration tool, wheels, demos.
_NO_LIBRARY = frozenset({"idlelib", "lib2to3", "ensurepip", "turtledemo", "lib-dynload", "__phello__"})
# Other people's packages; and the reference pages, which are read topic by topic in compiled_text.py.
_NEVER_ENTERED = frozenset({"site-packages", "dist-packages", "pydoc_data", "__pycache__"})


@dataclass(frozen=True, kw_only=True)
class PythonFile:
    """A file to read. `path` is relative to the folder that Python imports from, with forward slashes."""

    source: str
    path: str
    licence: str
    location: Path

    @property
    def module(self) -> str:
        """The dotted name that the file is imported by."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def python_files(dropped: Counter[str]) -> list[PythonFile]:
    """Every usable file, in a fixed order; `dropped` counts the others by reason."""
    files = [*_standard_library(dropped)]
    for name, package in dependency_closure(OURSELVES).items():
        licence = licence_of(package)
        if not is_allowed(licence):
            dropped[f"licence not on the allow-list: {name} ({licence})"] += len(package.files or [])
            continue
        files.extend(_package_files(name, licence, package, dropped))
    return files


def dependency_closure(root: str) -> dict[str, Distribution]:
    """The installed distributions that `root` needs, and that those need, by normalised name; not `root` itself."""
    found: dict[str, Distribution] = {}
    waiting = [root]
    while waiting:
        name = _normalised(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            # Wanted on another platform or Python only.
            continue
        for requirement in found[name].requires or []:
            needed, _, marker = requirement.partition(";")
            match = re.match(r"[A-Za-z0-9._-]+", needed)
            if match and "extra" not in marker:
                waiting.append(match.group())
    found.pop(_normalised(root), None)
    return dict(sorted(found.items()))


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _standard_library(dropped: Counter[str]) -> Iterator[PythonFile]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for location in _files_below(root):
        relative = PurePosixPath(location.relative_to(root).as_posix())
        parts = set(relative.parts[:-1])
        if parts & _NO_LIBRARY:
            dropped["no library (editor, demos, wheels)"] += 1
        # _sysconfigdata holds the paths of the machine that built Python.
        elif relative.name.startswith("_sysconfigdata") or any(part.startswith("config-") for part in parts):
            dropped["generated"] += 1
        elif _is_wanted(relative, dropped):
            yield PythonFile(source="python", path=str(relative), licence=PYTHON_LICENCE, location=location)


def _files_below(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _NEVER_ENTERED]
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(found)


def _package_files(name: str, licence: str, package: Distribution, dropped: Counter[str]) -> Iterator[PythonFile]:
    for file in sorted(package.files or [], key=str):
        relative = PurePosixPath(file.as_posix())
        if relative.suffix != ".py" or ".." in relative.parts:
            continue
        if _is_wanted(relative, dropped):
            location = Path(str(package.locate_file(file)))
            if location.is_file():
                yield PythonFile(source=name, path=str(relative), licence=licence, location=location)


def _is_wanted(relative: PurePosixPath, dropped: Counter[str]) -> bool:
    parts = {part.lower() for part in relative.parts[:-1]}
    stem = relative.stem.lower()
    if parts & _TESTS or stem.startswith("test_") or stem.endswith(("_test", "_tests")) or stem == "conftest":
        dropped["tests"] += 1
    elif parts & _VENDORED:
        dropped["vendored copies"] += 1
    else:
        return True
    return False
