"""`ownlm evaluate`: how good a model is at a task, with n and an interval, alone or against another."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from ownlm.evaluation import Comparison, Estimate, Evaluation, TaskResult
    from ownlm.evaluation.results import ModelFacts

Flag = Annotated[bool, Parameter(negative="")]

_TOLD = {
    "failed": "could not be answered, and count as missing",
    "truncated": "longer than the context: their beginning was cut off",
    "cut": "ended at the limit of tokens",
    "merged": "a token reaches over the border of prompt and answer",
    "tie": "a tie for the first place, which counts as wrong",
}


def evaluate(
    model: str,
    *,
    task: tuple[str, ...],
    vs: str | None = None,
    limit: int | None = None,
    max_tokens: int | None = None,
    chat: Flag = False,
    adapter: Path | None = None,
    out: Path | None = None,
    force: Flag = False,
    json: Flag = False,
) -> int:
    """Ask MODEL the items of a task; every figure with n and a 95 % interval. Computed in float32.

    Example: ownlm evaluate runs/mine/chat --task questions.jsonl --vs runs/mine/base

    Parameters
    ----------
    model
        A model folder, a run's folder, a .gguf file, a starter (smollm2), or hub:ORG/NAME.
    task
        A file of items, a text, or a folder of texts; or NAME=FILE: hellaswag, arc-easy, arc-challenge, piqa, sarcasm,
        translation, group-swap (which needs no file). May be given several times; docs/evaluation.md has the forms.
    vs
        Another MODEL, on the same items; the same one, to compare with and without --adapter.
    limit
        So many items of each task, the first ones; of text, thousands of bytes.
    max_tokens
        The longest that a written answer may be (128).
    chat
        Ask by the model's chat template, as a user would.
    adapter
        A folder with a LoRA adapter, used beside MODEL's weights.
    out
        A folder to write results.json and items.jsonl to.
    force
        Move an existing folder aside.
    json
        Print what results.json holds.
    """
    from ownlm.artefact.write import refuse_unfit_name
    from ownlm.cli.open_model import open_model
    from ownlm.errors import OwnlmError
    from ownlm.evaluation import evaluate as run
    from ownlm.evaluation.read_task import read_task

    # What is wrong is told before a model is opened, and not after an hour.
    if out is not None:
        refuse_unfit_name(out)
        if out.exists() and not force:
            raise OwnlmError(f"{out} exists already; name another --out, or add --force to move it aside")
    tasks = [read_task(written, limit=limit, max_tokens=max_tokens) for written in task]
    ours = open_model(model, dtype="float32")
    theirs = None if vs is None else vs if vs == model else open_model(vs, dtype="float32")
    with EvaluationLine() as line:
        found = run(ours, tasks, vs=theirs, chat=chat, adapter=adapter, progress=line)
    if out is not None:
        found.save(out, force=force)
    if json:
        from json import dumps

        sys.stdout.write(dumps(found.to_json(), ensure_ascii=False) + "\n")
        return 0
    print_evaluation(found, out)
    return 0


def print_evaluation(found: "Evaluation", out: Path | None = None) -> None:
    """Each figure with n and interval, and beside it how another model's compares."""
    from ownlm.cli.screen_text import safe_text
    from ownlm.cli.terminal import terminal_columns
    from ownlm.cli.wrap import wrap_text

    lines = [_model_line(found.model, found.chat)]
    if found.other is not None:
        lines.append(f"against {_model_line(found.other, found.chat)}")
    for result in found.results:
        lines += ["", *_task_lines(result)]
    if out is not None:
        lines += ["", f"every item: {out / 'items.jsonl'}"]
    sys.stdout.write(wrap_text(safe_text("\n".join(lines)), terminal_columns(sys.stdout)) + "\n")


def _model_line(facts: "ModelFacts", chat: bool) -> str:
    adapter = "" if facts.adapter is None else ", with an adapter"
    return f"{facts.name}{adapter}: {facts.arithmetic}, {'asked by its chat template' if chat else 'continuing text'}"


def _task_lines(result: "TaskResult") -> list[str]:
    counts = dict(result.counts)
    kind = "pieces of text" if result.task.kind == "text" else "items"
    lines = [f"{result.task.name}: {counts.pop('items'):,} {kind}"]
    width = max(map(len, result.estimates))
    for name, one in result.estimates.items():
        lines.append(f"  {name:<{width}}  {_estimate(one)}")
        comparison = (result.comparisons or {}).get(name)
        if comparison is not None:
            lines.append(f"  {'':<{width}}  {_comparison(comparison)}")
    return lines + [f"  {count} of them: {_TOLD.get(name, name)}" for name, count in counts.items() if count]


def _estimate(one: "Estimate") -> str:
    if not one.n:
        return "nothing was answered"
    share = one.metric.share
    text = _figure(one.value, share)
    if one.interval is not None:
        low, high = (_figure(end, share) for end in one.interval)
        text += f"   95 % interval {low} to {high}"
    if one.against_chance is not None and one.metric.chance is not None:
        text += f"   {one.against_chance} ({_figure(one.metric.chance, share)})"
    return text + (f"   n = {one.n:,}" if one.missing else "")


def _comparison(one: "Comparison") -> str:
    share = one.metric.share
    words = {"no evidence": "no evidence of a difference"}.get(one.verdict, one.verdict)
    sign = "+" if one.difference >= 0 else "-"
    text = f"{words}: {_figure(one.other, share)} there, {sign}{_figure(abs(one.difference), share)} here"
    if one.interval is not None:
        low, high = (f"{'-' if end < 0 else '+'}{_figure(abs(end), share)}" for end in one.interval)
        text += f" (95 % interval {low} to {high})"
    text += f", p = {one.p:.2g}"
    return text + (f"; about {one.enough:,} items would show such a difference" if one.enough is not None else "")


def _figure(value: float, share: bool) -> str:
    return f"{value:.1%}" if share else f"{value:.4g}"


class EvaluationLine:
    """How far it is: a line that is written over on a terminal, and one in ten seconds elsewhere."""

    def __init__(self) -> None:
        from ownlm.cli.terminal import is_tty

        self.live = is_tty(sys.stderr)
        self._began = self._shown = time.monotonic()
        self._of: tuple[str, str] | None = None

    def __call__(self, model: str, task: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self._of != (model, task) or done == 0:
            self._of, self._began = (model, task), now
        if now - self._shown < (0.2 if self.live else 10):
            return
        from ownlm.cli.screen_text import safe_line

        self._shown = now
        spent = now - self._began
        left = f", about {spent / done * (total - done):.0f} s left" if spent > 2 and done else ""
        text = safe_line(f"  {task}, {model}: {100 * done // max(total, 1)} %{left}")
        sys.stderr.write(f"\r\x1b[K{text}" if self.live else f"{text}\n")
        sys.stderr.flush()

    def __enter__(self) -> "EvaluationLine":
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            sys.stderr.write("\r\x1b[K")
