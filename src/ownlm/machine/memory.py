"""How much memory this process may have: the machine's, or less where a container sets a limit.

In:  nothing. Out: `Memory` in bytes; 0 where the system does not tell. And what was freed can be given back.
"""

import ctypes
import os
import sys
from dataclasses import dataclass
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
# malloc.h's M_MMAP_THRESHOLD.
_MMAP_THRESHOLD = -3
# Of control groups, version 2 and 1.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True, kw_only=True)
class Memory:
    total_bytes: int
    free_bytes: int


def memory(meminfo: Path = _MEMINFO, limits: tuple[Path, ...] = _LIMITS) -> Memory:
    if sys.platform == "win32":
        return _windows()
    total, free = _from_meminfo(meminfo) if meminfo.is_file() else (_pages() * os.sysconf("SC_PAGE_SIZE"), 0)
    for path in limits:
        try:
            limit = int(path.read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        total = min(total, limit) if total else limit
        free = min(free, limit)
    return Memory(total_bytes=total, free_bytes=free)


def give_back_memory() -> None:
    """To the system what was freed between things that stay: glibc keeps such gaps, and larger things do not fit in."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def keep_large_blocks_apart() -> None:
    """For training: what has 2 MB or more goes back to the system when it is freed, and leaves no gap (mallopt(3))."""
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_MMAP_THRESHOLD, 2 * 2**20)


def _from_meminfo(path: Path) -> tuple[int, int]:
    kibibytes = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        kibibytes[name] = int(value.split()[0]) if value.split() else 0
    return kibibytes.get("MemTotal", 0) * 1024, kibibytes.get("MemAvailable", 0) * 1024


def _pages() -> int:
    try:
        return max(os.sysconf("SC_PHYS_PAGES"), 0)
    except (ValueError, OSError):
        return 0


def _windows() -> Memory:
    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "t1", "f1", "t2", "f2", "extended")),
        )

    status = Status()
    status.length = ctypes.sizeof(Status)
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined,unused-ignore]
    return Memory(total_bytes=int(status.total), free_bytes=int(status.free))
