"""What this machine can do, and what a run draws from the wall."""

from ownlm.machine.compiler import has_compiler
from ownlm.machine.energy import EnergyMeter
from ownlm.machine.instructions import has_fast_bfloat16, instruction_sets
from ownlm.machine.memory import Memory, give_back_memory, keep_large_blocks_apart, memory
from ownlm.machine.probe import Probe, best_device, free_bytes, peak_memory_bytes, probe

__all__ = [
    "EnergyMeter",
    "Memory",
    "Probe",
    "best_device",
    "free_bytes",
    "give_back_memory",
    "has_compiler",
    "has_fast_bfloat16",
    "instruction_sets",
    "keep_large_blocks_apart",
    "memory",
    "peak_memory_bytes",
    "probe",
]
