"""A look at the machine that takes under a second: device, threads, and which precision is the faster.

bfloat16 is twice as fast as float32 where the processor has instructions for it, and a hundred times
slower where it has not: nothing but a measurement tells.
"""

import sys
import time
from dataclasses import dataclass

import torch

from ownlm.machine.memory import memory

# Large enough to show the speed of products, small enough to take no time where bfloat16 is emulated.
_SIDE = 384
_SECONDS = 0.15
# bfloat16 costs some precision: it must win by more than noise.
_WORTH_IT = 1.2


@dataclass(frozen=True, kw_only=True)
class Probe:
    """`precision` is that of matrix products in training; gigaflops are 1e9 operations a second."""

    device: str
    threads: int
    float32_gigaflops: float
    bfloat16_gigaflops: float

    @property
    def precision(self) -> str:
        wins = self.bfloat16_gigaflops > _WORTH_IT * self.float32_gigaflops
        return "bfloat16" if wins else "float32"


def best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def free_bytes(device: str | torch.device) -> int:
    """Of the device's memory; 0 where the system does not tell."""
    if torch.device(device).type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    return memory().free_bytes


def probe(device: str | None = None) -> Probe:
    """Measure this machine with the threads that torch has now."""
    device = device or best_device()
    return Probe(
        device=device,
        threads=torch.get_num_threads(),
        float32_gigaflops=_product_rate(device, torch.float32),
        bfloat16_gigaflops=_product_rate(device, torch.bfloat16),
    )


def _product_rate(device: str, dtype: torch.dtype) -> float:
    left = torch.ones(_SIDE, _SIDE, device=device, dtype=dtype)
    _synchronise(left @ left)
    started, products = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < _SECONDS:
        _synchronise(left @ left)
        products += 1
    return 2 * _SIDE**3 * products / elapsed / 1e9


def _synchronise(result: torch.Tensor) -> None:
    """Wait for the device by reading one number back."""
    if result.device.type != "cpu":
        result[0, 0].item()


def peak_memory_bytes() -> int:
    """The most memory that this process has held; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
