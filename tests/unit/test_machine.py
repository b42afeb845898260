"""The energy meter on counters made by hand, and the probe."""

import subprocess
import sys
from pathlib import Path

import pytest

from ownlm.machine import EnergyMeter, Probe, best_device, peak_memory_bytes, probe


def zone(folder: Path, name: str, microjoules: int, limit: int = 1_000_000_000) -> Path:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "energy_uj").write_text(str(microjoules))
    (folder / name / "max_energy_range_uj").write_text(str(limit))
    return folder / name


def test_measured_from_whole_packages_alone(tmp_path: Path) -> None:
    for name, start in (("intel-rapl:0", 5_000_000), ("intel-rapl:1", 0), ("intel-rapl:0:0", 7)):
        zone(tmp_path, name, start)
    meter = EnergyMeter(powercap=tmp_path)
    assert meter.source == "measured" and "RAPL" in meter.method
    zone(tmp_path, "intel-rapl:0", 5_000_000 + 3_600_000_000, limit=10**10)
    zone(tmp_path, "intel-rapl:1", 1_800_000_000)
    zone(tmp_path, "intel-rapl:0:0", 900_000_000)
    assert meter.watt_hours() == pytest.approx(1.5)
    assert meter.watt_hours() == pytest.approx(1.5)


def test_a_counter_that_starts_again(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", 900_000_000)
    meter = EnergyMeter(powercap=tmp_path)
    zone(tmp_path, "intel-rapl:0", 100_000_000)
    assert meter.watt_hours() * 3600 == pytest.approx(200.0)


def test_estimated_where_there_are_no_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([10.0, 460.0, 910.0])
    monkeypatch.setattr("ownlm.machine.energy.time.process_time", lambda: next(seconds))
    meter = EnergyMeter(powercap=tmp_path, watt_hours_before=2.0)
    assert meter.source == "estimated" and "factor of two" in meter.method
    assert meter.watt_hours() == pytest.approx(3.0)
    assert meter.watt_hours() == pytest.approx(4.0)


def test_unreadable_counters_are_none(tmp_path: Path) -> None:
    (zone(tmp_path, "intel-rapl:0", 1) / "energy_uj").write_text("")
    assert EnergyMeter(powercap=tmp_path).source == "estimated"


@pytest.mark.parametrize("rapl", [False, True])
def test_a_card_is_counted_or_said_not_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rapl: bool) -> None:
    if rapl:
        zone(tmp_path, "intel-rapl:0", 0)
    monkeypatch.setattr("ownlm.machine.energy._gpu_millijoules", lambda: None)
    meter = EnergyMeter(device="cuda", powercap=tmp_path)
    assert meter.source == "estimated" and "card, which takes most, is not counted" in meter.method
    monkeypatch.setattr("ownlm.machine.energy.time.process_time", lambda: 0.0)
    joules = iter([0.0, 0.0, 0.0, 7_200_000.0])
    monkeypatch.setattr("ownlm.machine.energy._gpu_millijoules", lambda: next(joules))
    next(joules)
    meter = EnergyMeter(device="cuda", powercap=tmp_path)
    assert (meter.source, meter.method.endswith("and the card's own")) == ("measured" if rapl else "estimated", True)
    assert meter.watt_hours() == pytest.approx(2.0)


@pytest.mark.parametrize(("bfloat16", "expected"), [(100.0, "float32"), (119.0, "float32"), (130.0, "bfloat16")])
def test_bfloat16_must_win_clearly(bfloat16: float, expected: str) -> None:
    found = Probe(device="cpu", threads=1, float32_gigaflops=100.0, bfloat16_gigaflops=bfloat16)
    assert found.precision == expected


def test_the_probe_measures() -> None:
    found = probe("cpu")
    assert found.float32_gigaflops > 0 and found.bfloat16_gigaflops > 0 and found.threads >= 1
    assert best_device() in ("cpu", "cuda", "mps")
    assert 10e6 < peak_memory_bytes() < 1e12


@pytest.mark.skipif(sys.platform != "linux", reason="announced: only glibc's allocator is told what to keep")
def test_large_blocks_are_no_part_of_the_heap() -> None:
    code = """
import ctypes
from ownlm.machine import keep_large_blocks_apart
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
# Freed, so large a block moves glibc's own threshold beyond itself.
libc.free(libc.malloc(16 << 20))
keep_large_blocks_apart()
block = libc.malloc(4 << 20)
heap = [line for line in open("/proc/self/maps") if "[heap]" in line]
begin, end = (int(word, 16) for word in heap[0].split()[0].split("-"))
assert not begin <= block < end
"""
    subprocess.run([sys.executable, "-c", code], check=True)
