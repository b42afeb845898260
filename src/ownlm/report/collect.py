"""Gather what a run's folder says about itself, ready to be shown.

In:  a quickstart's folder: summary.json, base/{events,samples}.jsonl, base/run.json, every stage's card.
Out: RunFacts. Nothing is computed by a model here, and nothing must be there: a missing part is empty
     and its section is left out, so that a report can also be made of a run that was cut short.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ownlm.artefact import Card, read_card, read_events
from ownlm.errors import DamagedError, OwnlmError

STAGES = ("corpus", "conversations", "tokenizer", "tokens", "base", "chat")
CURVE_POINTS = 240  # about three a pixel column of the plot would draw nothing more
SAMPLES_SHOWN = 7

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Everything that the report and the model card are made from."""

    summary: dict[str, Any]
    plan: dict[str, Any]
    training: Sequence[Point]  # step, loss in nats a token, averaged over neighbouring steps
    validation: Sequence[Point]  # step, bits per byte
    reference_lines: dict[str, float]
    samples: dict[str, list[dict[str, Any]]]  # prompt -> samples in order of steps
    cards: dict[str, Card]
    notes: Sequence[str]  # what could not be read, and why


def collect(run: Path) -> RunFacts:
    if not run.is_dir():
        raise OwnlmError(f"no such folder: {run}; name the folder of a run, such as runs/quickstart")
    notes: list[str] = []
    events = _lines(run / "base" / "events.jsonl", notes)
    summary = _object(run / "summary.json", notes)
    cards = _cards(run, notes)
    if not summary and not events and not cards:
        raise OwnlmError(f"{run} holds no run to report on; `ownlm quickstart --out {run}` makes one")
    start = next((event for event in events if event.get("event") == "start"), {})
    lines = start.get("reference_lines") or (summary.get("training") or {}).get("reference_lines") or {}
    return RunFacts(
        summary=summary,
        plan=_object(run / "base" / "run.json", notes) or start.get("plan") or {},
        training=thinned(_points(events, "step", "loss")),
        validation=_points(events, "validation", "bits_per_byte"),
        reference_lines={name: float(value) for name, value in lines.items() if _is_number(value)},
        samples=_samples(_lines(run / "base" / "samples.jsonl", notes)),
        cards=cards,
        notes=notes,
    )


def thinned(points: Sequence[Point], most: int = CURVE_POINTS) -> list[Point]:
    """Means of neighbouring points: no more than can be seen."""
    width = max(1, math.ceil(len(points) / most))
    groups = (points[start : start + width] for start in range(0, len(points), width))
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def spread(items: Sequence[Any], most: int = SAMPLES_SHOWN) -> list[Any]:
    """The first, the last, and between them ever wider apart: most is learned at the beginning."""
    if len(items) <= most:
        return list(items)
    last = len(items) - 1
    indices = {0, last, *(round((last + 1) ** (index / (most - 1))) - 1 for index in range(1, most))}
    return [items[index] for index in sorted(indices)]


def flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as rows: ('train.learning_rate', '0.003')."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            rows += flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value if isinstance(value, str) else json.dumps(value, default=str)))
    return rows


def equal_runs(written: str, truth: str) -> list[tuple[bool, str]]:
    """`written` in stretches, each equal to `truth` at the same places, or not."""
    runs: list[tuple[bool, str]] = []
    for index, character in enumerate(written):
        same = index < len(truth) and truth[index] == character
        if runs and runs[-1][0] == same:
            runs[-1] = (same, runs[-1][1] + character)
        else:
            runs.append((same, character))
    return runs


def _points(events: Iterable[dict[str, Any]], name: str, value: str) -> list[Point]:
    by_step = {  # a step written twice, before and after an interruption, counts once
        float(event["step"]): float(event[value])
        for event in events
        if event.get("event") == name and _is_number(event.get(value)) and _is_number(event.get("step"))
    }
    return sorted(by_step.items())


def _samples(lines: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    by_prompt: dict[str, dict[int, dict[str, Any]]] = {}
    for line in lines:
        if isinstance(line.get("prompt"), str) and isinstance(line.get("text"), str) and "step" in line:
            by_prompt.setdefault(line["prompt"], {})[line["step"]] = line
    return {prompt: [steps[step] for step in sorted(steps)] for prompt, steps in by_prompt.items()}


def _cards(run: Path, notes: list[str]) -> dict[str, Card]:
    cards = {}
    for stage in STAGES:
        try:
            cards[stage] = read_card(run / stage)
        except DamagedError:
            notes.append(f"The card of {stage}/ is damaged, so its settings are missing here.")
        except OwnlmError:
            continue  # not made, or not yet
    return cards


def _object(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        notes.append(f"{path.name} is damaged, so what it says is missing here.")
        return {}
    return value


def _lines(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    try:
        return [line for line in read_events(path) if isinstance(line, dict)]
    except ValueError:
        notes.append(f"{path.name} is damaged, so what it says is missing here.")
        return []


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
