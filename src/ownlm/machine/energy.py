"""Energy of a run in watt-hours, and whether it was measured or estimated.

Measured: the processor packages' own counters (RAPL, in Linux's powercap), where they can be read, which
mostly needs root, and NVIDIA's counter for a card. Estimated: the processor time that this process used,
times a stated number of watts for a busy hardware thread.

The estimate: 8 W. Servers' rated power over their threads is 2 to 4 W (360 W / 192, 280 W / 128), laptops'
2 to 4 W (28 W / 12, 45 W / 16); memory, board and the power supply's loss about double it. It is good to a
factor of two, and every figure from it is labelled as an estimate.
"""

import time
from pathlib import Path

import torch

WATTS_A_BUSY_THREAD = 8.0
_POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Counts from its making on. `watt_hours()` may be asked at any time."""

    def __init__(self, *, device: str = "cpu", powercap: Path = _POWERCAP, watt_hours_before: float = 0.0) -> None:
        self._zones = _readable_zones(powercap)
        self._last = {zone: _read(zone / "energy_uj") for zone in self._zones}
        self._joules = watt_hours_before * 3600
        self._cpu_seconds = time.process_time()
        self._on_gpu = device == "cuda"
        self._gpu = self._on_gpu and _gpu_millijoules() is not None
        self._gpu_last = (_gpu_millijoules() or 0.0) if self._gpu else 0.0

    @property
    def source(self) -> str:
        """ "measured" or "estimated"; the latter also where only a part is."""
        return "measured" if self._zones and self._gpu == self._on_gpu else "estimated"

    @property
    def method(self) -> str:
        processor = f"processor time x {WATTS_A_BUSY_THREAD:g} W a busy thread, good to a factor of two"
        if self._zones:
            processor = "the processor's own energy counters (RAPL)"
        if not self._on_gpu:
            return processor
        return processor + (" and the card's own" if self._gpu else "; the card, which takes most, is not counted")

    def watt_hours(self) -> float:
        self._joules += self._processor_joules() + self._gpu_joules()
        return self._joules / 3600

    def _processor_joules(self) -> float:
        if not self._zones:
            now = time.process_time()
            used, self._cpu_seconds = now - self._cpu_seconds, now
            return used * WATTS_A_BUSY_THREAD
        total = 0.0
        for zone in self._zones:
            now_microjoules = _read(zone / "energy_uj")
            used_microjoules = now_microjoules - self._last[zone]
            if used_microjoules < 0:
                # The counter starts again at its range: about every hour on a busy server.
                used_microjoules += _read(zone / "max_energy_range_uj")
            self._last[zone] = now_microjoules
            total += used_microjoules / 1e6
        return total

    def _gpu_joules(self) -> float:
        if not self._gpu:
            return 0.0
        now = _gpu_millijoules() or self._gpu_last
        used, self._gpu_last = now - self._gpu_last, now
        return used / 1e3


def _readable_zones(powercap: Path) -> list[Path]:
    """Whole packages ("intel-rapl:0"), not their parts ("intel-rapl:0:1"), which are counted in them."""
    zones = []
    for zone in sorted(powercap.glob("intel-rapl:*")):
        if zone.name.count(":") == 1:
            try:
                _read(zone / "energy_uj")
                zones.append(zone)
            except (OSError, ValueError):
                continue
    return zones


def _read(path: Path) -> float:
    return float(path.read_text())


def _gpu_millijoules() -> float | None:
    """NVIDIA's total energy counter, where torch's optional pynvml is installed."""
    try:
        import pynvml  # type: ignore[import-not-found,unused-ignore]

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    except Exception:
        return None
