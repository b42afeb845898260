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
from typing import Any

import torch
from _common import Target, finish, parser, set_threads, spread, table

from ownlm.model.checkpoint import Checkpoint, StoredTensor
from ownlm.model.families import family_of
from ownlm.model.formats.gguf_write import write_gguf
from ownlm.tokenizer.reference import byte_characters

PROMPT = "The capital of France is"
OURS = """
import torch, ownlm
torch.set_num_threads(threads)
model = ownlm.load(file, device="cpu")
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


def random_file(path: Path, *, small: bool) -> Path:
    """A llama of SmolLM2-135M's shape, Q4_1 with an embedding of Q8_0 as that one is."""
    layers, width, inner, rows = (2, 64, 128, 256) if small else (30, 576, 1536, 49152)
    fields: dict[str, Any] = {
        "model_type": "llama",
        "vocab_size": rows,
        "max_position_embeddings": 8192,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": inner,
        "num_attention_heads": width // 64,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "hidden_act": "silu",
    }
    shapes = {"model.embed_tokens.weight": (rows, width), "model.norm.weight": (width,)}
    for layer in range(layers):
        stem = f"model.layers.{layer}"
        shapes |= {f"{stem}.self_attn.{name}_proj.weight": (width, width) for name in "qkvo"}
        shapes |= {f"{stem}.mlp.{name}_proj.weight": (inner, width) for name in ("gate", "up")}
        shapes[f"{stem}.mlp.down_proj.weight"] = (width, inner)
        shapes |= {f"{stem}.{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
    family = family_of(fields)
    fields = family.write_config(family.read_config(fields))
    tensors = {name: _random(shape) for name, shape in shapes.items()}
    names = [*byte_characters(), *(f"token {number}" for number in range(256, rows))]
    tokens = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": names, "tokenizer.ggml.merges": []}
    write_gguf(path, Checkpoint(fields=fields, tensors=tensors), quantization="Q4_1", tokenizer_metadata=tokens)
    return path


def _random(shape: tuple[int, ...]) -> StoredTensor:
    return StoredTensor(shape=shape, stored_as="F32", read=lambda: torch.randn(shape))


if __name__ == "__main__":
    main()
