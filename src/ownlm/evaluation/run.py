"""Ask a model the items of tasks, and another model the same ones: `ownlm.evaluate`.

    tasks ──read_task──▶ items ──ask──▶ Outcome ──estimate──▶ n, figure, 95 % interval
                           └── of the other model ──compare──▶ better, worse, no evidence

Models that are named are opened in float32, the reference; one that is given opened keeps its own arithmetic, and the
result says which.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.evaluation.metric import Comparison, Estimate, compare, estimate
from ownlm.evaluation.read_task import read_task
from ownlm.evaluation.results import ModelFacts, model_facts, result_json, write_results
from ownlm.evaluation.subject import ModelSubject, Subject
from ownlm.evaluation.tasks.task import Outcome, Task
from ownlm.opened import Model, load

# Hears of which model and task how much of how much is done.
Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """`estimates` and `comparisons` by metric, in the task's order; `counts` of what happened to items."""

    task: Task
    marked: Sequence[Outcome]
    estimates: Mapping[str, Estimate]
    counts: Mapping[str, int]
    other_marked: Sequence[Outcome] | None = None
    comparisons: Mapping[str, Comparison] | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """`chat`: asked by the model's template."""

    model: ModelFacts
    other: ModelFacts | None
    chat: bool
    results: Sequence[TaskResult]

    def __getitem__(self, task: str) -> TaskResult:
        """By the task's name."""
        for result in self.results:
            if result.task.name == task:
                return result
        raise KeyError(task)

    def to_json(self) -> dict[str, Any]:
        """What results.json holds."""
        return result_json(self)

    def save(self, folder: str | Path, *, force: bool = False) -> Path:
        """results.json, items.jsonl and card.json in a new folder."""
        return write_results(self, Path(folder), force=force)


def evaluate(
    model: Model | str | Path,
    task: str | Path | Task | Sequence[str | Path | Task],
    *,
    vs: Model | str | Path | None = None,
    limit: int | None = None,
    max_tokens: int | None = None,
    chat: bool = False,
    adapter: str | Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """How good a model is at a task: a file of items, a known set (hellaswag=FILE), text, or a Task of your own.

    `vs`: another model, or the same one without the adapter, on the same items. `limit`: the first so many items.
    `max_tokens`: the longest that a written answer may be, by default 128. `chat`: by the chat template.
    docs/evaluation.md has the forms of items and the metrics.
    """
    given = [task] if isinstance(task, str | Path | Task) else list(task)
    if not given:
        raise OwnlmError("there is nothing to evaluate; give at least one task")
    # What is wrong with a file is told before a model is opened.
    read = partial(read_task, limit=limit, max_tokens=max_tokens)
    tasks = _apart([one if isinstance(one, Task) else read(one) for one in given])
    ours = model if isinstance(model, Model) else load(model, dtype="float32")
    if adapter is not None:
        ours = _with(ours, adapter)
    theirs = None
    if vs is not None:
        # The same weights need not be opened twice.
        same = not isinstance(vs, Model) and str(vs) == ours.name
        theirs = _with(ours, None) if same else vs if isinstance(vs, Model) else load(vs, dtype="float32")
    asked = _ask_all(ours, tasks, chat, progress)
    others = None if theirs is None else _ask_all(theirs, tasks, chat, progress)
    results = [
        result_of(one, marked, None if others is None else others[place])
        for place, (one, marked) in enumerate(zip(tasks, asked, strict=True))
    ]
    other = None if theirs is None else model_facts(theirs, chat)
    return Evaluation(model=model_facts(ours, chat), other=other, chat=chat, results=results)


def ask(task: Task, subject: Subject) -> list[Outcome]:
    """The items marked; what is no finite number is missing."""
    return [_finite(marked) for marked in task.mark(subject)]


def result_of(task: Task, marked: Sequence[Outcome], other: Sequence[Outcome] | None = None) -> TaskResult:
    """`other`: what another model made of the same items."""
    rows = {metric.name: [one.rows.get(metric.name) for one in marked] for metric in task.metrics}
    estimates = {metric.name: estimate(metric, rows[metric.name]) for metric in task.metrics}
    flags = sorted({flag for one in marked for flag in one.flags})
    counts = {"items": len(marked), "failed": sum(one.error is not None for one in marked)}
    counts |= {flag: sum(flag in one.flags for one in marked) for flag in flags}
    comparisons = None
    if other is not None:
        found = {m.name: compare(m, rows[m.name], [one.rows.get(m.name) for one in other]) for m in task.metrics}
        comparisons = {name: comparison for name, comparison in found.items() if comparison is not None}
    return TaskResult(
        task=task, marked=marked, estimates=estimates, counts=counts, other_marked=other, comparisons=comparisons
    )


def _ask_all(model: Model, tasks: Sequence[Task], chat: bool, progress: Progress | None) -> list[list[Outcome]]:
    marked = []
    for task in tasks:
        read = None if progress is None else partial(progress, model.name, task.name)
        marked.append(ask(task, ModelSubject(model, chat=chat, progress=read)))
    return marked


def _finite(marked: Outcome) -> Outcome:
    if all(row is None or all(map(math.isfinite, row)) for row in marked.rows.values()):
        return marked
    return replace(marked, rows={}, error="the model's scores are no finite numbers; open it in float32")


def _with(model: Model, adapter: str | Path | None) -> Model:
    """The same weights, and an adapter beside them or none; the given model keeps what it has."""
    other = Model(model.decoder, model.files, name=model.name)
    other.use_adapter(adapter)
    return other


def _apart(tasks: Sequence[Task]) -> list[Task]:
    """Two tasks of one name would be one in the results."""
    names = [task.name for task in tasks]
    numbers = [names[: place + 1].count(name) for place, name in enumerate(names)]
    return [
        replace(task, name=f"{task.name} ({number})") if names.count(task.name) > 1 else task
        for task, number in zip(tasks, numbers, strict=True)
    ]
