"""Training speed against a plain transformers loop: tokens a second of whole steps, 10 M parameters.

Both sides: the same shape (ours has QK-norm besides), context 256, batches of 8, random tokens.

    A  LlamaForCausalLM, AdamW as torch has it by default, one forward and backward a step
    B  ownlm's Learner: Decoder, fused AdamW; and with Muon, for its price beside it

Runs take turns a few steps at a time, round after round, so that a slow moment of the machine meets all.
"""

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from _common import (
    NOT_RUN_BFLOAT16,
    Target,
    finish,
    has_fast_bfloat16,
    parser,
    set_threads,
    spread,
    table,
)

from ownlm.corpus.shards import TokenDocuments
from ownlm.machine import Probe, has_compiler
from ownlm.model import Decoder, DecoderConfig, initialise, parameter_count, training_flops_per_token
from ownlm.train.optim import OptimizerConfig
from ownlm.train.pack import DocumentRows
from ownlm.train.step import Learner

CONTEXT, ROWS = 256, 8
ROUND_STEPS = 4
Step = Callable[[int], None]


def shape(quick: bool) -> DecoderConfig:
    return DecoderConfig(
        vocab_size=256 if quick else 4096,
        hidden_size=64 if quick else 384,
        num_hidden_layers=1 if quick else 5,
        num_attention_heads=1 if quick else 6,
        num_key_value_heads=1 if quick else 6,
        head_dim=64,
        intermediate_size=128 if quick else 1024,
        max_position_embeddings=CONTEXT,
    )


def transformers_step(config: DecoderConfig, rows: DocumentRows, *, low: bool) -> Step | None:
    """The loop that most people write; None where transformers is not installed."""
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        return None
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.max_position_embeddings,
            tie_word_embeddings=True,
            use_cache=False,
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step(number: int) -> None:
        tokens = rows.batch(number * ROWS, ROWS).tokens_BT
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def ownlm_step(config: DecoderConfig, rows: DocumentRows, *, low: bool, muon: bool, compiled: bool) -> Step:
    model = initialise(Decoder(config), seed=0).train()
    optimizer = OptimizerConfig(matrix_optimizer="muon" if muon else "adamw", learning_rate=1e-4)
    learner = Learner.of(model, optimizer, precision="bfloat16" if low else "float32", compiled=compiled)

    def step(number: int) -> None:
        learner.step(rows.batch(number * ROWS, ROWS))

    return step


def make_steps(config: DecoderConfig, rows: DocumentRows, *, low: bool, compiled: bool) -> dict[str, Step | None]:
    """Every run in one precision by its name; None: transformers is missing."""
    word = "bfloat16" if low else "float32"
    steps: dict[str, Step | None] = {
        f"transformers {word}": transformers_step(config, rows, low=low),
        f"ownlm {word}": ownlm_step(config, rows, low=low, muon=False, compiled=False),
        f"ownlm {word} muon": ownlm_step(config, rows, low=low, muon=True, compiled=False),
    }
    if compiled:
        steps[f"ownlm {word} compiled"] = ownlm_step(config, rows, low=low, muon=False, compiled=True)
    return steps


def measure(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Tokens a second of each, a figure a round: A B C A B C ..."""
    for name, step in steps.items():
        started = time.perf_counter()
        step(0)
        print(f"warm-up of {name}: {time.perf_counter() - started:.1f} s", flush=True)
        step(1)
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            for number in range(ROUND_STEPS):
                step(2 + round_number * ROUND_STEPS + number)
            rates[name].append(ROUND_STEPS * ROWS * CONTEXT / (time.perf_counter() - started))
    return rates


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--rounds", type=int, default=7, help="rounds of four steps each (default 7)")
    options.add_argument("--compile", action="store_true", help="compiled runs too, where there is a compiler")
    chosen = options.parse_args()
    machine = set_threads(chosen.threads)
    config = shape(chosen.quick)
    print(f"{parameter_count(config):,} parameters, context {CONTEXT}, {ROWS} rows, {machine.threads} threads\n")
    ids = np.random.default_rng(0).integers(0, config.vocab_size, 64 * ROWS * CONTEXT)
    rows = DocumentRows(TokenDocuments.of([ids]), context=CONTEXT, seed=0)

    notes = []
    compiled = chosen.compile and has_compiler()
    if chosen.compile and not compiled:
        notes.append("compiled not run: there is no C++ compiler here")
    found = make_steps(config, rows, low=False, compiled=compiled)
    if has_fast_bfloat16(machine):
        found |= make_steps(config, rows, low=True, compiled=compiled)
    else:
        notes.append(f"bfloat16 {NOT_RUN_BFLOAT16}")
    if any(step is None for step in found.values()):
        notes.append("transformers is not installed (pip install 'ownlm[bench]'): no comparison")
    rates = measure({name: step for name, step in found.items() if step}, 1 if chosen.quick else chosen.rounds)
    report(rates, config, machine, notes)


def report(rates: dict[str, list[float]], config: DecoderConfig, machine: Probe, notes: list[str]) -> None:
    print()
    flops = training_flops_per_token(config, CONTEXT)
    peer = rates.get("transformers float32")
    lines = []
    for name, values in rates.items():
        ratio = f"{paired(values, peer):.2f} x" if peer else "-"
        lines.append([name, spread(values), ratio, f"{median(values) * flops / 1e9:.0f}"])
    table(["run", "tokens a second", "transformers float32", "gigaflops"], lines)
    for note in notes:
        print(note)
    figures = {f"{name.replace(' ', '_')}_tokens_per_second": median(values) for name, values in rates.items()}
    # Ours runs in the precision that the probe chose; the peer in each.
    for kind in ("", " compiled"):
        ours = rates.get(f"ownlm {machine.precision}{kind}")
        for precision in ("float32", "bfloat16"):
            other = rates.get(f"transformers {precision}")
            if ours and other:
                figures[f"{(kind or ' eager').strip()}_over_transformers_{precision}"] = paired(ours, other)
    targets: dict[str, Target] = {
        "eager_over_transformers_float32": (">=", 1.6),
        "eager_over_transformers_bfloat16": (">=", 1.0),
        "compiled_over_transformers_float32": (">=", 2.2),
        "compiled_over_transformers_bfloat16": (">=", 1.2),
    }
    finish(figures, targets, machine=machine, packages=["transformers"], notes=notes)


def paired(ours: list[float], other: list[float]) -> float:
    """Median of the ratios within a round: what the machine does to both cancels out."""
    return median(a / b for a, b in zip(ours, other, strict=True))


if __name__ == "__main__":
    main()
