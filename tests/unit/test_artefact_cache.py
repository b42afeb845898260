"""The cache's folder on each platform; its entries are marked, and nothing unmarked is ever emptied."""

from pathlib import Path

import pytest

from ownlm.artefact.cache import _TAG, TAG_NAME, cache_entry, cache_folder, cache_sizes, clear_cache, is_entry
from ownlm.errors import OwnlmError


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({"OWNLM_CACHE": "/disk/c", "XDG_CACHE_HOME": "/x"}, "linux", "/disk/c"),
        ({"XDG_CACHE_HOME": "/x"}, "linux", "/x/ownlm"),
        ({"XDG_CACHE_HOME": "relative"}, "linux", "/home/u/.cache/ownlm"),
        ({}, "linux", "/home/u/.cache/ownlm"),
        ({}, "darwin", "/home/u/Library/Caches/ownlm"),
        ({"LOCALAPPDATA": "/local"}, "win32", "/local/ownlm"),
        ({}, "win32", "/home/u/AppData/Local/ownlm"),
        ({"OWNLM_CACHE": "~/c"}, "linux", "/home/u/c"),
    ],
)
def test_where_it_lies(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], platform: str, expected: str) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    assert cache_folder(environ, platform) == Path(expected)


def test_a_relative_folder_stays_where_it_was_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert cache_folder({"OWNLM_CACHE": "here"}) == tmp_path / "here"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(OwnlmError, match="set OWNLM_CACHE"):
        cache_folder({})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OWNLM_CACHE", str(tmp_path))
    return tmp_path


def test_cleared_are_marked_entries_alone(cache: Path) -> None:
    (cache / "mine").mkdir()
    (cache / "mine" / "letter.txt").write_text("keep me")
    entry = cache_entry("starters")
    (entry / "tiny").mkdir()
    (entry / "tiny" / "weights").write_bytes(bytes(1_000))
    (entry / "link").symlink_to(cache / "mine")
    assert cache_sizes()["starters"] >= 1_000 and "mine" not in cache_sizes()
    assert clear_cache() >= 1_000
    assert cache_sizes() == {} and list(entry.glob("t*")) == []
    assert (cache / "mine" / "letter.txt").read_text() == "keep me"
    assert cache_entry("starters") == entry and clear_cache() == 0


def test_a_folder_that_only_has_the_name_is_left_alone(cache: Path) -> None:
    (cache / "starters").mkdir()
    (cache / "starters" / "letter.txt").write_text("keep me")
    with pytest.raises(OwnlmError, match="is no cache of ownlm's"):
        cache_entry("starters")
    assert clear_cache() == 0 and (cache / "starters" / "letter.txt").exists()


def test_two_that_make_it_at_once_agree(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def late(folder: Path) -> bool:
        """The mark that another process writes, and fills, just after it was looked for."""
        seen.append(is_entry(folder))
        if len(seen) == 1:
            (folder / TAG_NAME).write_text(_TAG, encoding="utf-8")
            (folder / "index").write_text("kept")
        return seen[-1]

    monkeypatch.setattr("ownlm.artefact.cache.is_entry", late)
    assert is_entry(cache_entry("ask")) and seen == [False, True]


def test_one_cut_off_while_it_was_made_is_made_again(cache: Path) -> None:
    (cache / "starters").mkdir()
    (cache / "starters" / "CACHEDIR.TAG").write_text("Signa")
    assert cache_entry("starters").is_dir() and clear_cache() == 0


def test_no_cache_is_an_empty_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWNLM_CACHE", str(cache / "none"))
    assert cache_sizes() == {} and clear_cache() == 0 and not (cache / "none").exists()
