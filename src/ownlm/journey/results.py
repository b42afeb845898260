"""What the journey reached: exams before and after, figures of all stages, memorisation; then the report.

In:  the finished stages in a quickstart's folder. Out: the dictionary of summary.json; report.html beside it.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from math import exp, log, log2
from pathlib import Path
from time import monotonic
from typing import Any

from ownlm.artefact import Card, Events, read_card, read_events
from ownlm.artefact.recipe import to_yaml
from ownlm.corpus import read_documents
from ownlm.corpus.shards import bytes_per_token
from ownlm.evaluation import ExamResult, Share, run_choose, run_exam
from ownlm.journey.control import tuned_as_long
from ownlm.journey.memorisation import continued_text
from ownlm.journey.recipe import JourneyPlan, QuickstartRecipe
from ownlm.machine import EnergyMeter, best_device, peak_memory_bytes
from ownlm.model import parameter_count, parameters_by_part, training_flops_per_token
from ownlm.opened import Model, load
from ownlm.tokenizer import cut
from ownlm.train.pretrain import APART

# A base model never ends its turn: no right answer of the exam is longer than this.
ANSWER_TOKENS = 64
# Shown cut into tokens, when the tokenizer is made and in the report.
CUT_SAMPLES = ("The list is unbelievably long.", "def add(a, b): return a + b", "print(2026 - 1984)")
# Questions that the chat proposes, by kind.
PROPOSED = {"fact": 2, "expression": 2, "refusal": 1}
LIMITS = (
    "It is very small: it knows some Python by heart and little else, and it is often wrong.",
    "What it says is likely text, not checked truth. Where it answers an expression, compare with Python.",
    "It repeats what its text says, with that text's errors and slants; it was not tested for bias or safety.",
    "It reads and writes English and Python only, and it forgets what is further back than its context.",
)
TRAININGS = {"pretrain": "base", "finetune": "chat", "control": "control"}


def conclude(run: Path, recipe: QuickstartRecipe, plan: JourneyPlan, record: Events) -> dict[str, Any]:
    """Examine the models in `run` and gather every figure."""
    meter, started = EnergyMeter(device=best_device()), monotonic()
    base, chat = load(run / "base", dtype="float32"), load(run / "chat", dtype="float32")
    conversations = run / "conversations"
    before, after = _exam(conversations, base), _exam(conversations, chat)
    choices = {"pretrained": run_choose(conversations, chat.answer_log_likelihoods)}
    if (run / "control" / "card.json").is_file():
        as_long = tuned_as_long(run / "chat", read_card(run / "control").how["steps"])
        choices["as_long"] = run_choose(conversations, as_long.answer_log_likelihoods)
        control = load(run / "control", dtype="float32")
        choices["scratch"] = run_choose(conversations, control.answer_log_likelihoods)
    cards = {name: read_card(run / name) for name in ("corpus", "tokenizer", "tokens", "base", "chat")}
    trainings = {stage: read_card(run / name).figures for stage, name in TRAININGS.items() if (run / name).is_dir()}
    summary: dict[str, Any] = {
        "name": run.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "ownlm quickstart",
        "recipe": to_yaml(recipe),
        "plan": asdict(plan),
        "minutes": {},
        "corpus": _corpus_figures(cards["corpus"]),
        "tokenizer": {
            "kind": cards["tokenizer"].how["kind"],
            "vocab_size": cards["tokenizer"].figures["vocab_size"],
            "bytes_per_token": bytes_per_token(cards["tokens"].figures),
            "cut": [[piece.text for piece in cut(chat.tokenizer, sample)] for sample in CUT_SAMPLES],
        },
        "model": {
            "parameters": parameter_count(base.decoder.config),
            "parameters_by_part": parameters_by_part(base.decoder.config),
            "config": asdict(base.decoder.config),
            "flops_per_token": training_flops_per_token(base.decoder.config, recipe.pretrain.context),
        },
        "training": _training_figures(run, base, cards, trainings),
        "exam": {
            "before": _shares(before),
            "after": _shares(after),
            "failures": _failures(after),
            "passed": proposals(after),
        },
        "choose": {name: share_facts(share) for name, share in choices.items()} if choices["pretrained"].n else None,
        "memorisation": continued_text(base, run / "tokens"),
        "energy": _energy(record, trainings, meter),
        "peak_memory_bytes": peak_memory_bytes(),
        "limits": list(LIMITS),
        "next": [
            f"ownlm chat {run}   talk to it again",
            f"ownlm generate {run}/base def   before it learned to chat",
            "ownlm quickstart --text FOLDER --out runs/mine   your own texts",
            "ownlm quickstart --minutes 60 --out runs/longer   a larger model",
        ],
        "paths": {"model": "chat", "base": "base", "report": "report.html", "corpus": "corpus"},
    }
    # Last, so that the exam's own time is in it.
    summary["minutes"] = _minutes(record, exam=(monotonic() - started) / 60)
    return summary


def share_facts(share: Share) -> dict[str, Any]:
    low, high = share.interval
    return {"right": share.right, "n": share.n, "low": round(low, 4), "high": round(high, 4)}


def _exam(conversations: Path, model: Model) -> ExamResult:
    """Greedy answers; the base model is asked in the same chat form, which it never saw."""

    def answer(questions: list[str]) -> list[str]:
        prompts = [model.question_prompt(question) for question in questions]
        return [done.text for done in model.complete(prompts, temperature=0, max_tokens=ANSWER_TOKENS)]

    return run_exam(conversations, answer)


def _shares(result: ExamResult) -> dict[str, Any]:
    return {kind: share_facts(share) for kind, share in result.shares.items()}


def _failures(result: ExamResult) -> list[dict[str, str]]:
    return [
        {"kind": item.kind, "question": item.question, "answer": item.answer, "expected": item.expected}
        for item in result.failures(3)
    ]


def proposals(result: ExamResult) -> list[dict[str, str]]:
    """The first that it got right, so many of each kind as PROPOSED says: what the chat proposes to try."""
    right = [item for item in result.marked if item.right]
    chosen = [item for kind, most in PROPOSED.items() for item in [x for x in right if x.kind == kind][:most]]
    return [{"kind": item.kind, "question": item.question, "answer": item.answer} for item in chosen]


def _corpus_figures(card: Card) -> dict[str, Any]:
    sources: dict[tuple[str, str], dict[str, Any]] = {}
    for row in card.figures["mixture"]:
        key = (row["source"], row["kind"])
        entry = sources.setdefault(key, {"source": key[0], "kind": key[1], "documents": 0, "bytes": 0})
        entry["documents"] += row["documents"]
        entry["bytes"] += row["bytes"]
    return {
        "documents": card.figures["documents"],
        "bytes": card.figures["bytes"],
        "sources": sorted(sources.values(), key=lambda entry: -entry["bytes"]),
        "hash": card.content,
    }


def _training_figures(
    run: Path, base: Model, cards: dict[str, Card], trainings: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    events = list(read_events(run / "base" / "events.jsonl"))
    start = next(event for event in events if event["event"] == "start")
    steps = [event for event in events if event["event"] == "step"]
    figures = cards["base"].figures
    tokens = figures["tokens"]
    bytes_a_word = _bytes_a_word(run / "corpus")
    before = _bits_knowing_nothing(base, cards["tokens"])
    per_token = start["flops_per_token"]
    return {
        "tokens": tokens,
        "steps": cards["base"].how["steps"],
        "flops": per_token * sum(facts["tokens"] for facts in trainings.values()),
        "tokens_per_second": round(tokens / figures["seconds"]),
        "precision": cards["base"].how["precision"],
        "reference_lines": start["reference_lines"],
        "bits_per_byte": {
            "before": before,
            "after": figures["bits_per_byte"],
            "slices": {name: facts["bits_per_byte"] for name, facts in figures["slices"].items()},
        },
        "perplexity_per_word": {
            "before": _perplexity(before, bytes_a_word),
            "after": _perplexity(figures["bits_per_byte"], bytes_a_word),
        },
        "skipped_steps": sum(event["event"] == "skip" for event in events),
        "last_loss": steps[-1]["loss"],
    }


def _bits_knowing_nothing(model: Model, tokens: Card) -> float:
    """Bits per byte of a model that holds every token for equally likely, as an untrained one does to a hundredth."""
    held_out = [facts for name, facts in tokens.figures.items() if name.startswith("validation") and APART not in name]
    ratio: float = sum(facts["tokens"] for facts in held_out) / sum(facts["bytes"] for facts in held_out)
    return round(log2(model.tokenizer.vocab_size) * ratio, 4)


def _perplexity(bits_per_byte: float, bytes_a_word: float) -> float:
    """Among how many equally likely words it would be as unsure; the exponent is bounded for untrained models."""
    return float(f"{exp(min(50.0, log(2) * bits_per_byte * bytes_a_word)):.3g}")


def _bytes_a_word(corpus: Path) -> float:
    """Bytes of held-out text for each word between spaces: makes bits per byte into perplexity per word."""
    texts = [document.text for document in read_documents(corpus, split="validation")]
    return sum(len(text.encode()) for text in texts) / max(1, sum(len(text.split()) for text in texts))


def _minutes(record: Events, *, exam: float) -> dict[str, float]:
    """Wall-clock minutes by stage, over all interruptions."""
    minutes: dict[str, float] = {}
    for event in read_events(record.path):
        minutes[event["name"]] = round(minutes.get(event["name"], 0.0) + event["minutes"], 3)
    minutes["exam"] = round(exam, 3)
    minutes["total"] = round(sum(minutes.values()), 3)
    return minutes


def _energy(record: Events, trainings: dict[str, dict[str, Any]], meter: EnergyMeter) -> dict[str, Any]:
    rest = sum(event["watt_hours"] for event in read_events(record.path)) + meter.watt_hours()
    trained = sum(facts["watt_hours"] for facts in trainings.values())
    return {"watt_hours": round(rest + trained, 3), "source": meter.source, "method": meter.method}
