"""`ownlm doctor`: one screen; whatever is missing is said with what for and how to get it."""

import builtins
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import tiny_starter
from ownlm.cli import findings
from ownlm.cli.main import run
from ownlm.machine import instruction_sets, memory
from ownlm.machine.probe import Probe
from ownlm.model.starters import get_starter


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_starter.know(monkeypatch, tmp_path)
    monkeypatch.setattr(
        "ownlm.machine.probe",
        lambda: Probe(device="cpu", threads=1, float32_gigaflops=50.0, bfloat16_gigaflops=1.0),
    )


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["doctor", *arguments]) == 0
    done = capsys.readouterr()
    assert done.err == ""
    return done.out


def test_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    lines = doctor(capsys).splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    names = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert names[:5] == ["ownlm", "torch", "processor", "graphics", "precision"]
    assert {"energy", "compiler", "memory", "disk", "cache", "smollm2", "tiny", "datasets"} <= set(names)


def test_what_is_missing_says_what_for_and_the_fix(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    monkeypatch.setattr(findings, "_DISK_WANTED_BYTES", 1e30)
    monkeypatch.setattr(findings, "_MEMORY_WANTED_BYTES", 1e30)
    found = json.loads(doctor(capsys, "--json"))
    missing = {name: facts["missing"] for name, facts in found.items() if facts["missing"]}
    assert set(missing) == {"compiler", "memory", "disk", "smollm2", "tiny", "datasets", "transformers"}
    assert "torch.compile" in missing["compiler"] and "install" in missing["compiler"]
    assert missing["datasets"].endswith("pip install 'ownlm[hub]'")
    assert missing["tiny"].endswith("ownlm starter get tiny")
    assert found["precision"]["precision"] == "float32"


def test_without_torch_it_still_speaks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def no_torch(name: str, *rest: Any) -> Any:
        if name == "torch":
            raise OSError("libtorch.so: cannot open shared object file\nmore")
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_torch)
    out = doctor(capsys)
    assert "torch        cannot be used: libtorch.so" in out and "python3 start.py" in out


def test_the_cache_is_listed_and_cleared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    get_starter(tiny_starter.tiny(), wheel=tiny_starter.make_wheel(tmp_path / "wheels"))
    found = json.loads(doctor(capsys, "--json"))
    assert found["cache"]["entries"]["starters"] > len(tiny_starter.WEIGHTS) and found["tiny"]["here"] is True
    out = doctor(capsys)
    assert "--clear-cache" in out and "here: ownlm chat tiny" in out
    assert doctor(capsys, "--clear-cache").startswith("0 MB freed")
    assert tiny_starter.cached(tmp_path) == []


def test_a_cache_that_cannot_be_is_a_finding(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings.os, "access", lambda *_: False)
    assert "set OWNLM_CACHE to a" in doctor(capsys)


def test_memory_knows_of_a_containers_limit(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  8000000 kB\nMemFree: 1 kB\nMemAvailable:  4000000 kB\nHuge:\n")
    (tmp_path / "limit").write_text("2000000000\n")
    (tmp_path / "max").write_text("max\n")
    free = memory(tmp_path / "meminfo", (tmp_path / "max", tmp_path / "none"))
    assert (free.total_bytes, free.free_bytes) == (8_192_000_000, 4_096_000_000)
    limited = memory(tmp_path / "meminfo", (tmp_path / "limit",))
    assert (limited.total_bytes, limited.free_bytes) == (2_000_000_000, 2_000_000_000)


@pytest.mark.skipif(sys.platform == "darwin", reason="announced: macOS has no /proc/cpuinfo")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flags\t\t: fpu avx2 fma avx512f avx512_bf16\n", ("AVX2", "FMA", "AVX-512", "AVX-512-BF16")),
        ("Features\t: fp asimd asimddp i8mm\n", ("NEON", "dot product", "I8MM")),
        ("nothing of use\n", ()),
    ],
)
def test_instruction_sets(tmp_path: Path, text: str, expected: tuple[str, ...]) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor: 0\n{text}")
    assert instruction_sets(tmp_path / "cpuinfo") == expected
    assert instruction_sets(tmp_path / "none") == ()
