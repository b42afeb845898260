"""DESIGN's import table against the code: data flows one way, and imports follow it.

The table says for each folder of src/ownlm which others it may import, at any depth of the file.
`errors` and `machine` are open to all; a folder that does not exist yet is simply not checked yet.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "src" / "ownlm"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 500

FOR_ALL = {"errors", "machine"}
MAY_IMPORT = {
    "errors": set[str](),
    "artefact": set[str](),
    "machine": {"artefact"},
    "tokenizer": {"artefact"},
    "personal_data": set[str](),
    "corpus": {"artefact", "tokenizer", "personal_data"},
    "model": {"artefact"},
    "engine": {"artefact", "tokenizer", "model"},
    "train": {"artefact", "tokenizer", "corpus", "model", "engine", "opened"},
    "evaluation": {"opened", "engine", "model", "tokenizer", "artefact"},
    "audit": {"evaluation", "corpus", "engine", "model", "tokenizer", "artefact"},
    "report": {"artefact"},
    "plan": {"model", "train"},
    "apps": {"engine", "corpus", "model", "tokenizer", "artefact", "opened"},
    "server": {"engine", "apps", "model", "tokenizer", "artefact", "opened", "personal_data"},
    "recipes": set[str](),  # holds data only
}
STAGES = set(MAY_IMPORT) - {"errors"}
MAY_IMPORT["opened"] = {"artefact", "engine", "model", "tokenizer"}  # what `ownlm.load` gives
MAY_IMPORT["journey"] = STAGES | {"opened"}
MAY_IMPORT["cli"] = STAGES | {"journey", "opened"}
MAY_IMPORT["__main__"] = {"cli"}
# Only its lazy table of names, and what type checkers read, leads from the package's own file to others.
MAY_IMPORT["__init__"] = {"apps", "evaluation", "journey", "opened", "train"}


def home(path: Path) -> str:
    """The folder, or the module at the top, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_homes(tree: ast.Module, path: Path) -> Iterator[tuple[int, str]]:
    """Line and home of every import of ours, relative ones resolved, those inside functions too."""
    package = ("ownlm", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            # `from ownlm import load` names something of the package itself, which only the top may do.
            if parts[0] == "ownlm" and len(parts) > 1 and name != "ownlm.__version__":
                known = parts[1] in MAY_IMPORT
                yield node.lineno, parts[1] if known else "__init__"


def forbidden(source: str, path: Path) -> list[str]:
    here = home(path)
    if here not in MAY_IMPORT:
        return [f"{here} stands in no row of the import table"]
    allowed = MAY_IMPORT[here] | FOR_ALL | {here}
    found = imported_homes(ast.parse(source), path)
    return [f"{path.name}:{line}: {here} may not import {there}" for line, there in found if there not in allowed]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_table(path: Path) -> None:
    assert forbidden(path.read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("model/decoder.py", "from ownlm.train.loop import train"),
        ("model/decoder.py", "import ownlm.engine"),
        ("report/html.py", "from ..corpus import build_corpus"),
        ("corpus/build.py", "def f():\n    from ownlm import engine"),
        ("server/app.py", "from ownlm import load"),
        ("invented/new.py", "import os"),
    ],
)
def test_the_check_sees_what_breaks_the_table(file: str, line: str) -> None:
    assert forbidden(line, PACKAGE / file) != []


@pytest.mark.parametrize("line", ["from . import card", "from ownlm.errors import OwnlmError", "import torch"])
def test_the_check_lets_pass_what_is_allowed(line: str) -> None:
    assert forbidden(line, PACKAGE / "corpus" / "build.py") == []


def test_no_folder_imports_one_that_imports_it() -> None:
    def reaches(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(MAY_IMPORT[start])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += MAY_IMPORT[name]
        return seen

    assert [name for name in MAY_IMPORT if name in reaches(name)] == []


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.name == "__init__.py" and path.parent != PACKAGE],
    ids=lambda path: str(path.parent.relative_to(PACKAGE)),
)
def test_init_files_only_export(path: Path) -> None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        exports = isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
        assert isinstance(node, ast.Import | ast.ImportFrom) or docstring or exports, f"line {node.lineno}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
