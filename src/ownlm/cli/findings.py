"""What `ownlm doctor` looks at: each finding is a line about this machine, and what is missing for what.

Nothing here opens a connection or writes a file.
"""

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ownlm import __version__
from ownlm.artefact.cache import VARIABLE, cache_folder, cache_sizes
from ownlm.errors import OwnlmError

# A quickstart of ten minutes peaks at 0.7 GiB and writes some hundred MB; twice that is asked for.
_MEMORY_WANTED_BYTES = 1.5e9
_DISK_WANTED_BYTES = 1e9
_EXTRAS = (
    ("hub", "datasets", "text streamed from the hub (--text hub:NAME)"),
    ("bench", "transformers", "benchmarks and tests against other programs"),
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`says` for people, `facts` for programs; `missing` says what for, and the fix, or is empty."""

    name: str
    says: str
    facts: dict[str, Any] = field(default_factory=dict)
    missing: str = ""


def findings() -> list[Finding]:
    return [
        _ownlm(),
        *_torch_and_what_it_sees(),
        _compiler(),
        _memory(),
        _disk(),
        _cache(),
        *_starters(),
        *(_extra(*extra) for extra in _EXTRAS),
    ]


def _ownlm() -> Finding:
    python = platform.python_version()
    system = f"{platform.system()} {platform.machine()}"
    return Finding(
        name="ownlm",
        says=f"{__version__}, Python {python}, {system}",
        facts={"version": __version__, "python": python, "executable": sys.executable, "system": system},
    )


def _torch_and_what_it_sees() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        why = str(error).split("\n")[0][:120]
        yield Finding(name="torch", says=f"cannot be used: {why}", missing="nothing runs without it: python3 start.py")
        return
    from ownlm.machine import EnergyMeter, instruction_sets, probe

    threads, processors = torch.get_num_threads(), os.cpu_count() or 1
    yield Finding(
        name="torch",
        says=f"{torch.__version__}, {threads} of {processors} hardware threads",
        facts={"version": str(torch.__version__), "threads": threads, "hardware_threads": processors},
    )
    sets, used = instruction_sets(), torch.backends.cpu.get_cpu_capability()
    yield Finding(
        name="processor",
        says=f"{', '.join(sets) or 'instruction sets unknown'}; torch uses {used}",
        facts={"instruction_sets": list(sets), "torch_uses": used},
    )
    yield _graphics(torch)
    found = probe()
    yield Finding(
        name="precision",
        says=f"{found.precision} trains faster here: {found.float32_gigaflops:,.0f} gigaflops in float32, "
        f"{found.bfloat16_gigaflops:,.0f} in bfloat16",
        facts={
            "device": found.device,
            "precision": found.precision,
            "float32_gigaflops": round(found.float32_gigaflops, 1),
            "bfloat16_gigaflops": round(found.bfloat16_gigaflops, 1),
        },
    )
    meter = EnergyMeter(device=found.device)
    yield Finding(
        name="energy", says=f"{meter.source}: {meter.method}", facts={"source": meter.source, "method": meter.method}
    )


def _graphics(torch: Any) -> Finding:
    name, missing = "", ""
    if torch.cuda.is_available():
        name = f"{torch.cuda.get_device_name()}, {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB"
    elif torch.backends.mps.is_available():
        name = "Apple's, by Metal"
    elif shutil.which("nvidia-smi"):
        missing = "an NVIDIA card is here, but this torch cannot use it; for speed: pip install --force-reinstall torch"
    says = name or "none in use; all runs on the processor"
    return Finding(name="graphics", says=says, facts={"device": name or None}, missing=missing)


def _compiler() -> Finding:
    found = next((path for name in (os.environ.get("CXX") or "g++", "clang++") if (path := shutil.which(name))), None)
    install = "xcode-select --install" if sys.platform == "darwin" else "install g++, as by: sudo apt install g++"
    return Finding(
        name="compiler",
        says=f"{Path(found).name}: torch.compile works" if found else "none",
        facts={"path": found},
        missing="" if found else f"for faster training by torch.compile: {install}",
    )


def _memory() -> Finding:
    from ownlm.machine import memory

    found = memory()
    low = 0 < found.free_bytes < _MEMORY_WANTED_BYTES
    return Finding(
        name="memory",
        says=f"{found.total_bytes / 2**30:.1f} GiB, {found.free_bytes / 2**30:.1f} free"
        if found.total_bytes
        else "unknown",
        facts={"total_bytes": found.total_bytes, "free_bytes": found.free_bytes},
        missing="a quickstart needs 1.5 GB free: close other programs" if low else "",
    )


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    return Finding(
        name="disk",
        says=f"{free / 1e9:,.1f} GB free in this folder",
        facts={"free_bytes": free},
        missing="a quickstart needs 1 GB: free some, or use --out on another disk" if free < _DISK_WANTED_BYTES else "",
    )


def _cache() -> Finding:
    try:
        folder, sizes = cache_folder(), cache_sizes()
    except (OwnlmError, OSError) as error:
        return Finding(name="cache", says="none", missing=f"for starters: {error}")
    listed = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sizes.items())
    above = next(place for place in (folder, *folder.parents) if place.exists())
    writable = os.access(above, os.W_OK)
    return Finding(
        name="cache",
        says=f"{_short(folder)}: {listed or 'empty'}" + ("; ownlm doctor --clear-cache empties it" if listed else ""),
        facts={"folder": str(folder), "entries": sizes},
        missing="" if writable else f"to keep starters it must be writable: set {VARIABLE} to a folder that is",
    )


def _starters() -> Iterator[Finding]:
    try:
        from ownlm.model.starters import STARTERS, starter_path
    except (ImportError, OSError):  # of a torch that cannot be used, which has its own line
        return

    for name, starter in STARTERS.items():
        here = starter_path(starter).is_file()
        yield Finding(
            name=name,
            says=f"here: ownlm chat {name}" if here else f"not here, {starter.download_bytes / 1e6:.0f} MB to fetch",
            facts={"here": here, "path": str(starter_path(starter))},
            missing="" if here else f"for a useful chat at once: ownlm starter get {name}",
        )


def _extra(extra: str, module: str, purpose: str) -> Finding:
    here = importlib.util.find_spec(module) is not None
    return Finding(
        name=module,
        says="here" if here else "not here",
        facts={"here": here, "extra": extra},
        missing="" if here else f"for {purpose}: pip install 'ownlm[{extra}]'",
    )


def _short(folder: Path) -> str:
    try:
        return f"~/{folder.relative_to(Path.home()).as_posix()}"
    except (ValueError, RuntimeError):
        return str(folder)
