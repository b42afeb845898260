"""Every benchmark runs and ends with the line of JSON that programs read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("[a-z]*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_benchmark_ends_with_one_line_of_json(script: str) -> None:
    run = subprocess.run(
        [sys.executable, str(FOLDER / script), "--quick", "--threads", "1"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert run.returncode == 0, run.stderr
    line = json.loads(run.stdout.splitlines()[-1])
    assert set(line) == {"figures", "targets", "machine", "versions", "notes", "command"}
    assert line["command"] == f"python benchmarks/{script} --quick --threads 1"
    assert all(isinstance(value, float) for value in line["figures"].values())
    assert all(sign in (">=", "<=") for sign, _ in line["targets"].values())
    # A target that was not measured is said to be so, and every other stands on a figure.
    missing = set(line["targets"]) - set(line["figures"])
    assert all(f"not measured  {name}" in run.stdout for name in missing)


def test_there_is_a_benchmark_to_test() -> None:
    assert {"train_vs_nanogpt.py", "train_throughput.py", "tokenize_speed.py"} <= set(SCRIPTS)
