"""Tuning SmolLM2-135M with LoRA against TRL and PEFT: tokens a second and peak memory on the processor.

Rank 16 on every linear layer, AdamW, float32, context 512, the same conversations with every step; each run is a
process of its own, and sides take turns. Tokens are those of conversations: padding is not counted.

    ours                conversations packed into rows, one row at a time
    trl                 as SFTConfig has it: a step's conversations padded to the longest, layers computed again
                        for the gradient (its bfloat16 only where the processor is fast in it)
    trl_at_its_best     what is fastest here: nothing computed again, one conversation at a time, which pads nothing
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from _common import NOT_RUN_BFLOAT16, Target, finish, has_fast_bfloat16, parser, python_text, set_threads, spread, table
from _random_model import random_file

from ownlm.model.starters import STARTERS, find_starter
from ownlm.opened import load
from ownlm.tokenizer import Tokenizer

SIDES = ("ours", "trl", "trl_at_its_best")
CONTEXT, RANK, A_STEP, STEPS = 512, 16, 4, 3
MEDQUAD = Path(__file__).parents[2] / "shared" / "data" / "sft-medquad" / "medquad.jsonl.gz"
TARGETS: dict[str, Target] = {"speed_over_trl_at_its_best": (">=", 1.3), "memory_over_trl_at_its_best": ("<=", 0.8)}


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--rounds", type=int, default=2, help="how often each side runs, in turn (default 2)")
    options.add_argument("--data", type=Path, default=MEDQUAD, help="MedQuAD's questions and answers, .jsonl.gz")
    options.add_argument("--peers", type=Path, help="a folder with further packages, such as trl and peft")
    chosen = options.parse_args()
    if chosen.peers:
        sys.path.append(str(chosen.peers))
    machine = set_threads(chosen.threads)
    installed = all(find_spec(name) for name in ("trl", "peft", "transformers"))
    sides = SIDES if installed and not chosen.quick else SIDES[:1]
    notes = [] if installed else ["trl, peft or transformers is not installed: no comparison"]
    fast_bfloat16 = has_fast_bfloat16(machine)
    if not fast_bfloat16:
        notes.append(f"trl's default of bfloat16 {NOT_RUN_BFLOAT16}")
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = prepare(Path(folder), notes, small=chosen.quick)
        conversations = examples(tokenizer, chosen.data, notes, count=A_STEP * (2 if chosen.quick else STEPS + 1))
        job = {
            "model": str(model),
            "conversations": conversations,
            "context": CONTEXT,
            "a_step": A_STEP,
            "steps": 1 if chosen.quick else STEPS,
            "rank": RANK,
            "learning_rate": 2e-4,
            "bfloat16": fast_bfloat16,
            "threads": chosen.threads,
            "peers": [str(chosen.peers)] if chosen.peers else [],
        }
        (Path(folder) / "job.json").write_text(json.dumps(job), encoding="utf-8")
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for _ in range(1 if chosen.quick else chosen.rounds):
            for side in sides:
                found[side].append(run(side, Path(folder) / "job.json"))
                print(f"{side}: {found[side][-1]['seconds']:.1f} s", flush=True)
    tokens = sum(len(ids) for ids, _ in conversations[A_STEP:])
    finish(report(found, tokens), TARGETS, machine=machine, packages=["trl", "peft", "transformers"], notes=notes)


def prepare(folder: Path, notes: list[str], *, small: bool) -> tuple[Path, Tokenizer]:
    """A Hugging Face folder that both sides open, and its tokenizer."""
    file = None if small else find_starter(STARTERS["smollm2"])
    notes.append(
        "SmolLM2-135M-Instruct"
        if file
        else "random weights"
        if small
        else "random weights in the shape of SmolLM2-135M"
    )
    opened = load(file or random_file(folder / "random.gguf", small=small), dtype="float32")
    return opened.save(folder / "model"), opened.tokenizer


def examples(tokenizer: Tokenizer, data: Path, notes: list[str], *, count: int) -> list[tuple[list[int], list[bool]]]:
    """Questions with their answers, which alone are trained; what is longer than the context is cut for both sides."""
    if data.is_file():
        with gzip.open(data, "rt", encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        pairs = [(line["question"], line["answer"]) for line in Random(0).sample(lines, count)]
        notes.append(f"{count} questions and answers of MedQuAD")
    else:
        pairs = [
            ("What stands in this module?", text[: 400 * (1 + number % 5)])
            for number, text in enumerate(python_text(4_000_000)[:count])
        ]
        notes.append(f"{data.name} is not there: {count} modules of Python's library instead")
    found = []
    for question, answer in pairs:
        asked, answered = tokenizer.encode(question + "\n\n"), tokenizer.encode(answer)
        ids = (asked + answered)[:CONTEXT]
        found.append((ids, [number >= len(asked) for number in range(len(ids))]))
    return found


def run(side: str, job: Path) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("_finetune_sides.py")), side, str(job)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(found: dict[str, list[dict[str, Any]]], tokens: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    lines = []
    for side, runs in found.items():
        rates, gigabytes = [tokens / one["seconds"] for one in runs], [one["bytes"] / 1e9 for one in runs]
        figures |= {f"{side}_tokens_a_second": median(rates), f"{side}_gigabytes": median(gigabytes)}
        # Packed otherwise, a step of ours holds other conversations; over all of them the losses are alike.
        lines.append([side, spread(rates), spread(gigabytes, 2), f"{median(one['losses'][0] for one in runs):.3f}"])
    print()
    table(["run", "tokens a second", "peak GB", "first loss"], lines)
    for peer in SIDES[1:]:
        if peer in found:
            for figure, unit in (("speed", "tokens_a_second"), ("memory", "gigabytes")):
                figures[f"{figure}_over_{peer}"] = figures[f"ours_{unit}"] / figures[f"{peer}_{unit}"]
    return figures


if __name__ == "__main__":
    main()
