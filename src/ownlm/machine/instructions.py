"""Which of a processor's instruction sets matter for arithmetic on vectors and matrices.

In:  Linux's /proc/cpuinfo, macOS's sysctl. Out: names, the widest last; none where the system does not tell.
"""

import subprocess
import sys
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# The kernel's word -> the name that people know.
_KNOWN = {
    "avx2": "AVX2",
    "fma": "FMA",
    "f16c": "F16C",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512-VNNI",
    "avx512_bf16": "AVX-512-BF16",
    "avx512_fp16": "AVX-512-FP16",
    "amx_tile": "AMX",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
    "asimd": "NEON",
    "asimddp": "dot product",
    "bf16": "BF16",
    "i8mm": "I8MM",
    "sve": "SVE",
    "sve2": "SVE2",
}
_ON_MACOS = {"FEAT_DotProd": "asimddp", "FEAT_BF16": "bf16", "FEAT_I8MM": "i8mm", "AdvSIMD": "asimd"}


def instruction_sets(cpuinfo: Path = _CPUINFO) -> tuple[str, ...]:
    words = set(_on_macos()) if sys.platform == "darwin" else _on_linux(cpuinfo)
    return tuple(name for word, name in _KNOWN.items() if word in words)


def has_fast_bfloat16() -> bool:
    """Are products of bfloat16 done by the processor itself? Told by its instructions and not by a measurement, so
    that a model computes the same every time it is opened on a machine.
    """
    return not {"AVX-512-BF16", "AMX-BF16", "BF16"}.isdisjoint(instruction_sets())


def _on_linux(cpuinfo: Path) -> set[str]:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    # x86 says "flags", Arm "Features"; all processors of a machine say the same.
    return next(
        (set(line.partition(":")[2].split()) for line in lines if line.startswith(("flags", "Features"))), set()
    )


def _on_macos() -> set[str]:
    try:
        asked = subprocess.run(["sysctl", "hw.optional"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return set()
    on = {line.partition(":")[0].split(".")[-1] for line in asked.stdout.splitlines() if line.endswith(": 1")}
    words = {word for name, word in _ON_MACOS.items() if name in on}
    return words | ({"avx2"} if "avx2_0" in on else set()) | ({"avx512f"} if "avx512f" in on else set())
