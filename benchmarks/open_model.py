"""Opening a GGUF file: seconds and memory from a fresh process to the first token, against transformers and llama.cpp.

Each opening is a process of its own, in turn: libraries, tokenizer, weights, one token after a short text. Ours and
transformers' weights become float32; llama.cpp keeps the blocks as they are and maps them, so it is the floor and no
like. Two rows say what a part of ours takes. The file is `--file`, such as SmolLM2-135M-Instruct.Q4_1.gguf; without one
a model of SmolLM2's shape with random weights is written first.
"""

import json
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from _common import Target, finish, parser, set_threads, spread, table
from _random_model import random_file

PROMPT = "The capital of France is"
OURS = """
import torch, ownlm
torch.set_num_threads(threads)
model = ownlm.load(file, device="cpu", dtype="float32")
model.generate(prompt, max_tokens=1, temperature=0, ignore_eos=True)
"""
WEIGHTS = """
import torch
from pathlib import Path
from ownlm.artefact.gguf_header import read_gguf
from ownlm.model.formats.gguf_checkpoint import gguf_checkpoint
torch.set_num_threads(threads)
checkpoint = gguf_checkpoint(read_gguf(Path(file)))
weights = {name: stored.read() for name, stored in checkpoint.tensors.items()}
"""
HEADER = """
from pathlib import Path
from ownlm.artefact.gguf_header import read_gguf
read_gguf(Path(file))
"""
TRANSFORMERS = """
import os, torch
os.environ["TQDM_DISABLE"] = "1"
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(threads)
folder, name = os.path.split(file)
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=1, do_sample=False)
"""
LLAMA_CPP = """
from llama_cpp import Llama
model = Llama(file, verbose=False, n_threads=threads, n_ctx=256)
model(prompt, max_tokens=1, temperature=0)
"""
WAYS = {
    "ours": OURS,
    "ours, weights alone": WEIGHTS,
    "ours, header alone": HEADER,
    "transformers": TRANSFORMERS,
    "llama.cpp": LLAMA_CPP,
}
NEEDS = {"transformers": "transformers", "llama.cpp": "llama_cpp"}
# What each process does around its opening. The peak that getrusage knows begins with the parent's.
FRAME = """
import json, resource, sys, time
from pathlib import Path as _Path
file, threads, prompt = sys.argv[1], int(sys.argv[2]), sys.argv[3]
{opening}
ended = time.time()
status = _Path("/proc/self/status")
if status.is_file():
    peak = next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([ended, peak]))
"""
TARGETS: dict[str, Target] = {"ours_seconds": ("<=", 3.0), "ours_gigabytes": ("<=", 1.2)}


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--file", type=Path, help="a GGUF file; else one with random weights is made")
    options.add_argument("--rounds", type=int, default=3, help="how often each opens it, in turn (default 3)")
    chosen = options.parse_args()
    machine = set_threads(chosen.threads)
    rounds = 1 if chosen.quick else chosen.rounds
    ways = {name: code for name, code in WAYS.items() if find_spec(NEEDS.get(name, "json"))}
    if chosen.quick:
        ways.pop("transformers", None)
    with tempfile.TemporaryDirectory() as folder:
        file = chosen.file or random_file(Path(folder) / "random.gguf", small=chosen.quick)
        figures, rows = measure(ways, file, chosen.threads, rounds)
        notes = [f"{file.name}, {file.stat().st_size / 1e6:.0f} MB"]
    notes += [f"{name} is not installed" for name, package in NEEDS.items() if not find_spec(package)]
    print(f"{notes[0]}, {chosen.threads} threads")
    table(["", "seconds", "peak GB"], rows)
    packages = ["numpy", "gguf", "transformers", "llama_cpp_python"]
    finish(figures, TARGETS, machine=machine, packages=packages, notes=notes)


def measure(
    ways: dict[str, str], file: Path, threads: int, rounds: int
) -> tuple[dict[str, float], list[tuple[str, str, str]]]:
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, code in ways.items():
            found[name].append(opened(code, file, threads))
    figures: dict[str, float] = {}
    rows = []
    for name, pairs in found.items():
        seconds, gigabytes = ([pair[which] for pair in pairs] for which in (0, 1))
        word = name.replace(", ", "_").replace(" ", "_").replace(".", "_")
        figures |= {f"{word}_seconds": median(seconds), f"{word}_gigabytes": median(gigabytes)}
        rows.append((name, spread(seconds, 2), spread(gigabytes, 2)))
    return figures, rows


def opened(code: str, file: Path, threads: int) -> tuple[float, float]:
    """Seconds from before the process began until it is done, and its peak memory in GB."""
    command = [sys.executable, "-c", FRAME.format(opening=code), str(file), str(threads), PROMPT]
    began = time.time()
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    ended, peak = json.loads(run.stdout.splitlines()[-1])
    return ended - began, peak / 1e9


if __name__ == "__main__":
    main()
