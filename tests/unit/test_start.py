"""start.py: every failure is one line with its fix and exit 2; both routes to torch; resuming; passing on.

No test installs anything: .venv's Python is a shell script that records what it is asked and answers as told.
"""

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = [
    "start.py",
    "pyproject.toml",
    "requirements.lock",
    "requirements-dev.lock",
    "requirements-peers.lock",
]
LOCKED_TORCH = "torch==2.13.0"
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
NO_NETWORK = (
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...: "
    "Temporary failure in name resolution)'\nERROR: No matching distribution found for annotated-types"
)

# $0.calls records; FAKE_PIP_FAILS is the output of a failing `pip install`; FAKE_TORCH what is there already;
# FAKE_OFFER the torch that pip's own index offers.
FAKE_PYTHON = """#!/bin/sh
echo "python $*" >> "$0.calls"
case "$*" in
*version_info*) echo "$FAKE_VERSION" ;;
*importlib.metadata*) [ -n "$FAKE_TORCH" ] && echo "$FAKE_TORCH" || exit 1 ;;
*--report*) printf '{"install": [{"metadata": {"version": "%s"}}]}' "$FAKE_OFFER" ;;
*"pip install"*) [ -z "$FAKE_PIP_FAILS" ] || { printf '%s\\n' "$FAKE_PIP_FAILS"; exit 1; } ;;
esac
"""
FAKE_UV = """#!/bin/sh
echo "uv $*" >> "$(dirname "$0")/python.calls"
[ "$FAKE_UV" = slow ] && sleep 60
[ "$FAKE_UV" = yes ]
"""
FAKE_OWNLM = """#!/bin/sh
echo "ownlm got: $*"
exit 7
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the repository's root with a .venv that looks whole but only pretends."""
    for name in NEEDED:
        shutil.copy(ROOT / name, tmp_path / name)
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    (tmp_path / ".venv" / "pyvenv.cfg").write_text(f"home = somewhere\nversion = {VERSION}.1\n")
    for name, script in {"python": FAKE_PYTHON, "uv": FAKE_UV, "ownlm": FAKE_OWNLM}.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    return tmp_path


def load(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("start_under_test", folder / "start.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def start(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("FAKE_VERSION", VERSION)
    module = load(checkout)
    module.has_nvidia = lambda: False
    monkeypatch.setattr(sys, "platform", "linux")
    return module


def calls(checkout: Path) -> list[str]:
    record = checkout / ".venv" / "bin" / "python.calls"
    return record.read_text().splitlines() if record.exists() else []


def one_line(text: str) -> str:
    assert text.startswith("ownlm: ") and text.endswith("\n") and text.count("\n") == 1, text
    return text


# ---------------------------------------------------------------- what stops a set-up


def test_its_syntax_is_read_by_python_3_6() -> None:
    ast.parse((ROOT / "start.py").read_text(encoding="utf-8"), feature_version=(3, 6))


def test_python_too_old(checkout: Path) -> None:
    pretend = "import runpy, sys; sys.version_info = (3, 6, 15); runpy.run_path('start.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", pretend], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 2
    assert "this is Python 3.6, and ownlm needs Python 3.11" in one_line(done.stderr)


@pytest.mark.parametrize(("tool", "fix"), [("/usr/bin/apt", "sudo apt install python3-venv"), (None, "python.org")])
def test_no_ensurepip(
    start: ModuleType,
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tool: str | None,
    fix: str,
) -> None:
    shutil.rmtree(checkout / ".venv")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else find(name))
    monkeypatch.setattr(shutil, "which", lambda name, path=None: tool)
    assert start.main(["--install-only"]) == 2
    line = one_line(capsys.readouterr().err)
    assert "ensurepip" in line and fix in line


def test_no_network(start: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FAKE_TORCH", LOCKED_TORCH)
    monkeypatch.setenv("FAKE_PIP_FAILS", NO_NETWORK)
    assert start.main([]) == 2
    line = one_line(capsys.readouterr().err)
    assert "no connection" in line and "HTTPS_PROXY" in line and "goes on from here" in line
    assert "NewConnectionError" in start.LOG.read_text()


def test_no_network_is_said_before_the_other_routes_are_tried(
    start: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / ".venv" / "bin" / "uv").unlink()
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    monkeypatch.setenv("FAKE_PIP_FAILS", NO_NETWORK)
    assert start.main([]) == 2
    assert "no connection" in one_line(capsys.readouterr().err)
    assert not [call for call in calls(checkout) if "--report" in call or "requirements.lock" in call]


Usage = namedtuple("Usage", "total used free")


def test_too_little_disk(
    start: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**11, 10**11 - 10**9, 10**9))
    assert start.main([]) == 2
    line = one_line(capsys.readouterr().err)
    assert "too little disk: 1.0 GB free" in line and "2.5 GB needed" in line
    assert calls(checkout) == []


def test_a_disk_that_fills_on_the_way(
    start: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_TORCH", LOCKED_TORCH)
    monkeypatch.setenv("FAKE_PIP_FAILS", "ERROR: Could not install: [Errno 28] No space left on device")
    assert start.main([]) == 2
    assert "the disk is full" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("SSLError(CERTIFICATE_VERIFY_FAILED)", "PIP_CERT"),
        ("ERROR: [Errno 13] Permission denied: 'x'", "move this folder"),
        ("ERROR: No matching distribution found for torch==2.13.0", "has no torch==2.13.0 for Python"),
        ("ERROR: something nobody foresaw", "something nobody foresaw"),
        ("", "no reason given"),
    ],
)
def test_pip_in_one_line(start: ModuleType, output: str, said: str) -> None:
    assert said in start.explain(output)


def test_a_stranger_called_dot_venv_is_left_alone(
    start: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / ".venv" / "pyvenv.cfg").unlink()
    (checkout / ".venv" / "thesis.txt").write_text("years of work")
    assert start.main([]) == 2
    assert "no virtual environment" in one_line(capsys.readouterr().err)
    assert (checkout / ".venv" / "thesis.txt").exists()


def test_stopped_by_hand(start: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(extras: set[str]) -> None:
        raise KeyboardInterrupt

    start.install = stop
    assert start.main([]) == 130
    assert "goes on from here" in one_line(capsys.readouterr().err)


# ---------------------------------------------------------------- torch's two routes


@pytest.mark.parametrize(("folder", "tool", "found"), [(True, False, True), (False, True, True), (False, False, False)])
def test_an_nvidia_card_is_told_by_its_driver(
    start: ModuleType, tmp_path: Path, folder: bool, tool: bool, found: bool
) -> None:
    proc, path = tmp_path / "proc", tmp_path / "path"
    (proc / "driver" / "nvidia").mkdir(parents=True) if folder else proc.mkdir()
    path.mkdir()
    if tool:
        (path / "nvidia-smi").write_text("#!/bin/sh\n")
        (path / "nvidia-smi").chmod(0o755)
    assert load(ROOT).has_nvidia(proc, str(path)) is found


def torch_calls(checkout: Path) -> list[str]:
    return [call for call in calls(checkout) if call.startswith("uv") or "--report" in call]


def test_the_cpu_build_comes_by_uv(start: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_UV", "yes")
    start.install(set())
    probe, real = torch_calls(checkout)
    assert "--dry-run" in probe and "--dry-run" not in real
    assert "--torch-backend cpu" in real and LOCKED_TORCH in real


def test_without_an_answer_in_time_the_plain_build(
    start: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_UV", "slow")
    monkeypatch.setenv("FAKE_OFFER", "2.13.0")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**12))
    start.install_cpu_torch.__defaults__ = (0.2,)
    begun = time.monotonic()
    start.install(set())
    assert time.monotonic() - begun < 10
    assert "CPU build cannot be had" in capsys.readouterr().out
    assert any("-r requirements.lock" in call for call in calls(checkout))


def test_the_plain_build_needs_more_disk(
    start: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_UV", "no")
    monkeypatch.setenv("FAKE_OFFER", "2.13.0")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**11, 0, 4 * 10**9))
    assert start.main([]) == 2
    assert "9.0 GB needed" in one_line(capsys.readouterr().err)
    assert not any("requirements.lock" in call for call in calls(checkout))


def test_a_cpu_build_that_pip_itself_offers_is_taken_quietly(
    start: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_UV", "no")
    monkeypatch.setenv("FAKE_OFFER", "2.13.0+cpu")
    start.install(set())
    assert "cannot be had" not in capsys.readouterr().out


@pytest.mark.parametrize("case", ["card", "system"])
def test_no_detour_with_a_card_or_another_system(
    start: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**12))
    if case == "card":
        start.has_nvidia = lambda: True
    else:
        monkeypatch.setattr(sys, "platform", "darwin")
    start.install(set())
    assert torch_calls(checkout) == []


# ---------------------------------------------------------------- going on, and passing on


def finish(start: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setenv("FAKE_TORCH", LOCKED_TORCH)
    return int(start.main(["--install-only", *options]))


def pip_installs(checkout: Path) -> list[str]:
    return [call for call in calls(checkout) if "pip install" in call]


def test_size_and_minutes_are_said_first(
    start: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finish(start, monkeypatch) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "MB to download" in first and "min" in first


def test_a_finished_set_up_is_not_done_again(
    start: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finish(start, monkeypatch) == 0
    done = pip_installs(checkout)
    capsys.readouterr()
    assert finish(start, monkeypatch) == 0
    assert pip_installs(checkout) == done
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("change", ["lock", "folder", "python", "extra"])
def test_a_change_sets_up_again(
    start: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    assert finish(start, monkeypatch) == 0
    done = len(pip_installs(checkout))
    if change == "lock":
        with (checkout / "requirements.lock").open("a") as lock:
            lock.write("new-package==1.0\n")
    elif change in ("folder", "python"):
        stamp = json.loads(start.STAMP.read_text())
        start.STAMP.write_text(json.dumps(stamp | {{"folder": "root", "python": "python"}[change]: "other"}))
    assert finish(start, monkeypatch, *(["--dev"] if change == "extra" else [])) == 0
    assert len(pip_installs(checkout)) > done


def test_extras_add_up(start: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finish(start, monkeypatch, "--peers") == 0
    first = next(call for call in pip_installs(checkout) if "requirements.lock" in call)
    assert "-r requirements-dev.lock" in first and "-r requirements-peers.lock" in first
    done = len(pip_installs(checkout))
    assert finish(start, monkeypatch, "--dev") == 0
    assert len(pip_installs(checkout)) == done


def test_an_interrupted_set_up_goes_on(start: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PIP_FAILS", NO_NETWORK)
    assert finish(start, monkeypatch) == 2
    assert not start.STAMP.exists()
    monkeypatch.setenv("FAKE_PIP_FAILS", "")
    assert finish(start, monkeypatch) == 0
    assert not [call for call in calls(checkout) if "venv" in call.split()]


def test_a_package_cut_off_halfway_comes_again(
    start: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = checkout / ".venv" / "lib" / f"python{VERSION}" / "site-packages"
    for name, files in {"whole-1.0": ["METADATA", "RECORD"], "half-1.0": ["METADATA"]}.items():
        (packages / f"{name}.dist-info").mkdir(parents=True)
        for file in files:
            (packages / f"{name}.dist-info" / file).touch()
    assert finish(start, monkeypatch) == 0
    assert [folder.name for folder in packages.iterdir()] == ["whole-1.0.dist-info"]


@pytest.mark.parametrize("fault", ["does not run", "other Python", "half made"])
def test_a_broken_venv_is_made_anew(
    start: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    if fault == "does not run":
        (checkout / ".venv" / "bin" / "python").write_text("#!/nowhere/python\n")
    elif fault == "other Python":
        monkeypatch.setenv("FAKE_VERSION", "3.12" if VERSION == "3.11" else "3.11")
    else:
        (checkout / ".venv" / "pyvenv.cfg").unlink()
    made = []

    def make(command: list[str]) -> tuple[int, str]:
        made.append(command[1:])
        return 0, ""

    start.run = make
    start.prepare_venv()
    assert made == [["-m", "venv", "--clear", str(checkout / ".venv")]]


def test_options_go_on_to_quickstart_and_its_exit_status_comes_back(
    start: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert finish(start, monkeypatch) == 0
    seconds = []
    for _ in range(3):
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "start.py", "--minutes", "2", "--no-chat"],
            cwd=checkout,
            env=dict(os.environ, FAKE_VERSION=VERSION),
            capture_output=True,
            text=True,
        )
        seconds.append(time.monotonic() - begun)
    assert min(seconds) < 1
    assert done.stdout == "ownlm got: quickstart --minutes 2 --no-chat\n"
    assert (done.returncode, done.stderr) == (7, "")


def test_help_sets_nothing_up(start: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert start.main(["--help"]) == 0
    assert "--install-only" in capsys.readouterr().out
    assert pip_installs(checkout) == []
