"""What an evaluation found, as files: results.json, items.jsonl, and the card that holds their hashes.

results.json says what decides the figures: the model's content hash, its arithmetic, adapter and template, the sha256
of each file of data, and a hash of the task, items and all. items.jsonl has a line for every item and model.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ownlm.artefact import write_artefact
from ownlm.evaluation.metric import Comparison, Estimate
from ownlm.model.locate import verified_content
from ownlm.opened import Model

if TYPE_CHECKING:
    from ownlm.evaluation.run import Evaluation, TaskResult

VERSION = 1
RESULTS, ITEMS = "results.json", "items.jsonl"


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """`content`: one hash over the model's files; `template`: of the chat template, where it was asked by that."""

    name: str
    content: str
    arithmetic: str
    adapter: str | None
    template: str | None


def model_facts(model: Model, chat: bool) -> ModelFacts:
    template = None
    if chat and model.template is not None:
        template = hashlib.sha256((model.template.jinja or "").encode()).hexdigest()
    return ModelFacts(
        # A path may say who somebody is; the content hash tells models apart.
        name=Path(model.name).name if Path(model.name).exists() else model.name,
        content=verified_content(model.files.place),
        arithmetic=model.arithmetic,
        adapter=None if model.adapter is None else model.adapter.digest(),
        template=template,
    )


def result_json(evaluation: "Evaluation") -> dict[str, Any]:
    return {
        "version": VERSION,
        "model": asdict(evaluation.model),
        "vs": None if evaluation.other is None else asdict(evaluation.other),
        "asked_as": "chat" if evaluation.chat else "text",
        "tasks": [_task_json(result) for result in evaluation.results],
    }


def write_results(evaluation: "Evaluation", folder: Path, *, force: bool) -> Path:
    content = result_json(evaluation)
    inputs = {"model": evaluation.model.content}
    if evaluation.other is not None:
        inputs["vs"] = evaluation.other.content
    how = {"tasks": [task["name"] for task in content["tasks"]], "asked_as": content["asked_as"]}
    with write_artefact(folder, "evaluation", how=how, inputs=inputs, force=force) as draft:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        (draft.path / RESULTS).write_text(text, encoding="utf-8", newline="\n")
        with (draft.path / ITEMS).open("w", encoding="utf-8", newline="\n", errors="backslashreplace") as file:
            for result in evaluation.results:
                sides = {"model": result.marked, "vs": result.other_marked or ()}
                for side, marked in sides.items():
                    for number, one in enumerate(marked, start=1):
                        record = {"task": result.task.name, "of": side, "item": number, **one.record}
                        record |= {"rows": dict(one.rows), "flags": sorted(one.flags), "error": one.error}
                        file.write(json.dumps(_plain(record), ensure_ascii=False, allow_nan=False) + "\n")
        for task in content["tasks"]:
            draft.figures[task["name"]] = {name: metric["value"] for name, metric in task["metrics"].items()}
    return folder


def _task_json(result: "TaskResult") -> dict[str, Any]:
    task = result.task
    return {
        "name": task.name,
        "kind": task.kind,
        "task": task.digest,
        "data": dict(task.data),
        **dict(result.counts),
        "metrics": {name: _estimate_json(found) for name, found in result.estimates.items()},
        "vs": {name: _comparison_json(found) for name, found in (result.comparisons or {}).items()} or None,
    }


def _estimate_json(found: Estimate) -> dict[str, Any]:
    return {
        "n": found.n,
        "missing": found.missing,
        "value": found.value if math.isfinite(found.value) else None,
        "interval": None if found.interval is None else list(found.interval),
        "chance": found.metric.chance,
        "against_chance": found.against_chance,
    }


def _comparison_json(found: Comparison) -> dict[str, Any]:
    return {
        "n": found.n,
        "other": found.other,
        "difference": found.difference,
        "interval": None if found.interval is None else list(found.interval),
        "p": found.p,
        "verdict": found.verdict,
        "items_that_would_show_it": found.enough,
    }


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
