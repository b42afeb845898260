"""What every benchmark shares: its options, the machine it ran on, and how it ends.

    python benchmarks/NAME.py [--quick]  ──▶  a table for people, then one line of JSON for programs

A benchmark reports and does not judge: it exits 0 also when a target is missed.
"""

import argparse
import json
import os
import platform
import shlex
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ownlm.machine import Probe, probe

Target = tuple[str, float]
_MEETS: dict[str, Callable[[float, float], bool]] = {">=": lambda x, y: x >= y, "<=": lambda x, y: x <= y}
NOT_RUN_BFLOAT16 = "not run: bfloat16 is emulated here"
# What repeats itself or was generated.
_LEFT_OUT = ("test", "idlelib", "lib2to3", "site-packages", "__pycache__", "encodings", "pydoc_data")


def parser(description: str) -> argparse.ArgumentParser:
    """Options that all benchmarks take."""
    options = argparse.ArgumentParser(description=description.strip().splitlines()[0])
    options.add_argument("--quick", action="store_true", help="a few seconds: to see that it runs, not for figures")
    options.add_argument("--threads", type=int, default=2, help="threads of torch (default 2)")
    return options


def set_threads(threads: int) -> Probe:
    """Fix torch's threads, then look at the machine. Benchmarks of training measure the processor alone."""
    torch.set_num_threads(threads)
    return probe("cpu")


def has_fast_bfloat16(machine: Probe) -> bool:
    """Where bfloat16 is emulated a run in it takes an hour and says nothing."""
    return machine.precision == "bfloat16"


def python_text(most_bytes: int) -> list[str]:
    """The standard library's modules in order of their paths: real text that is always there."""
    root = Path(sysconfig.get_paths()["stdlib"])
    texts, size = [], 0
    for path in sorted(root.rglob("*.py")):
        if size >= most_bytes:
            break
        if any(part in _LEFT_OUT for part in path.relative_to(root).parts):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        texts.append(text)
        size += len(text.encode())
    return texts


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns, the first flush left and the others flush right."""
    lines = [list(headings), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        print("  ".join([line[0].ljust(widths[0]), *cells]).rstrip())


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median, and what the rounds ranged over."""
    middle = f"{median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def finish(
    figures: Mapping[str, float],
    targets: Mapping[str, Target],
    *,
    machine: Probe,
    packages: Sequence[str],
    notes: Sequence[str] = (),
) -> None:
    """Say of each target whether it is met, and end with the line of JSON. A figure not measured is left out."""
    print()
    for name, (sign, wanted) in targets.items():
        if name not in figures:
            print(f"not measured  {name} {sign} {wanted}")
        else:
            word = "met   " if _MEETS[sign](figures[name], wanted) else "MISSED"
            print(f"{word}  {name} {figures[name]:.3g} {sign} {wanted}")
    line = {
        "figures": {name: round(value, 4) for name, value in figures.items()},
        "targets": {name: list(target) for name, target in targets.items()},
        "machine": machine_facts(machine),
        "versions": {"python": platform.python_version(), **versions(packages)},
        "notes": list(notes),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
    }
    print(json.dumps(line))


def machine_facts(machine: Probe) -> dict[str, Any]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": machine.threads,
        "float32_gigaflops": round(machine.float32_gigaflops),
        "bfloat16_gigaflops": round(machine.bfloat16_gigaflops),
        "load_average": round(load, 2),
    }


def processor() -> str:
    """The processor's name where the system tells, with the widest vectors that torch found."""
    name = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Versions of what was compared; None for a peer that is not installed."""
    found: dict[str, str | None] = {}
    for package in ("ownlm", "torch", *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found
