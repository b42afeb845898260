"""The lock files: plain lines, within pyproject's ranges, and nothing that an install would add unseen."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-peers.lock"]


def read(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines}


@pytest.mark.parametrize("name", LOCKS)
def test_plain_lines_each_package_once(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9][\w.-]*==[0-9][0-9a-z.]*", line)] == []
    assert len(read(name)) == len(lines)


def test_no_package_stands_in_two_locks() -> None:
    core, dev, peers = map(read, LOCKS)
    assert core.keys() & dev.keys() | core.keys() & peers.keys() | dev.keys() & peers.keys() == set()


def test_locked_versions_lie_in_the_stated_ranges() -> None:
    core, dev, peers = map(read, LOCKS)
    extras = PYPROJECT["project"]["optional-dependencies"]
    stated = [
        (core, PYPROJECT["project"]["dependencies"]),
        (core | dev, extras["dev"] + PYPROJECT["build-system"]["requires"]),
        (core | dev | peers, extras["bench"] + extras["clients"]),
    ]
    for lock, lines in stated:
        for requirement in map(Requirement, lines):
            name = canonicalize_name(requirement.name)
            assert name in lock, f"{name} is not locked"
            assert requirement.specifier.contains(Version(lock[name])), f"{requirement} against {lock[name]}"


@pytest.mark.parametrize("count", [1, 2])
def test_locks_are_closed(count: int) -> None:
    """Whatever a locked package requires here is locked as well (CUDA's libraries are not required by CPU builds)."""
    lock: dict[str, str] = {}
    for name in LOCKS[:count]:
        lock |= read(name)
    for package, version in lock.items():
        try:
            found = distribution(package)
        except PackageNotFoundError:
            pytest.fail(f"{package} is locked but not installed: run `make install`")
        assert found.version.partition("+")[0] == version, package
        for requirement in map(Requirement, found.requires or []):
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            if requirement.name.startswith(("nvidia-", "cuda-")) or requirement.name == "triton":
                continue
            needed = canonicalize_name(requirement.name)
            assert needed in lock, f"{package} requires {needed}, which no lock holds"
            assert requirement.specifier.contains(Version(lock[needed]), prereleases=True), f"{package}: {requirement}"
