"""The loop: fetch, step, record, look, save; and go on exactly where it was when it starts again.

In:  a run folder, a fixed Plan, a model, rows. Out: the trained model, and the run's record.

    run.json       the plan, written once
    events.jsonl   every step, validation, skip, checkpoint     samples.jsonl   what it wrote
    control        a file with one word: pause, stop or sample (a person or the page writes it)
"""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from ownlm.artefact import Events, Watch, read_events, write_atomically
from ownlm.errors import OwnlmError
from ownlm.machine import EnergyMeter, keep_large_blocks_apart
from ownlm.model import Decoder
from ownlm.train.batch import Batch
from ownlm.train.checkpoint import checkpoints, load_checkpoint, save_checkpoint, save_snapshot, snapshot_steps
from ownlm.train.config import Plan
from ownlm.train.schedule import rate_factor
from ownlm.train.step import Learner, StepResult

# So many steps without an update in a row mean a run that will not recover by itself.
_MOST_SKIPS = 20
_PAUSE_SECONDS = 0.5


class Rows(Protocol):
    def batch(self, first_row: int, rows: int) -> Batch: ...


class Stopped(Exception):
    """The run was asked to stop; everything is saved and the same command goes on."""


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What the loop calls now and then, all optional: they look at the model and change nothing.

    validate(model) returns the facts of a validation event; sample(model) returns [(prompt, text)];
    watch(event) hears every event as it is recorded.
    """

    validate: Callable[[Decoder], dict[str, Any]] | None = None
    sample: Callable[[Decoder], list[tuple[str, str]]] | None = None
    watch: Watch = field(default=lambda event: None)
    facts: dict[str, Any] = field(default_factory=dict)


def fix_plan(run: Path, plan: Callable[[], Plan]) -> Plan:
    """The plan in `run`'s run.json; made by `plan` and written there when there is none yet."""
    path = run / "run.json"
    if not path.is_file():
        run.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(plan()), indent=2) + "\n")
    return read_plan(run)


def read_plan(run: Path) -> Plan:
    from ownlm.artefact.recipe import from_mapping

    return from_mapping(Plan, json.loads((run / "run.json").read_text(encoding="utf-8")), str(run / "run.json"))


def train(run: Path, plan: Plan, model: Decoder, rows: Rows, looks: Looks, *, trained: nn.Module | None = None) -> None:
    """Train `model`, or the adapter `trained` beside it, in place until plan.steps.

    Raises Stopped when asked to stop before.
    """
    torch.set_num_threads(plan.threads)
    keep_large_blocks_apart()
    _Training(run, plan, model, rows, looks, trained).run_to_end()


class _Training:
    def __init__(
        self, run: Path, plan: Plan, model: Decoder, rows: Rows, looks: Looks, trained: nn.Module | None
    ) -> None:
        self.run, self.plan, self.model, self.rows, self.looks = run, plan, model, rows, looks
        self.events, self.samples = Events(run / "events.jsonl"), Events(run / "samples.jsonl")
        self.learner = Learner.of(
            model,
            plan.optimizer,
            trained=trained,
            precision=plan.precision,
            micro_rows=plan.micro_rows,
            compact=plan.compact_loss,
            compiled=plan.compile,
        )
        self.optimizers = self.learner.optimizers
        self.step, self.seconds, self.watt_hours = 0, 0.0, 0.0
        self.skips = 0
        self._resume()
        self.meter = EnergyMeter(device=model.device.type, watt_hours_before=self.watt_hours)

    def run_to_end(self) -> None:
        plan = self.plan
        validations = _spread(plan.steps, plan.evaluations)
        samplings = _spread(plan.steps, plan.samples)
        snapshots = snapshot_steps(plan.steps, plan.snapshots)
        saved_at = time.monotonic()
        self.model.train()
        with _interrupts() as interrupted:
            if self.step == 0:
                self._validate()
            while self.step < plan.steps:
                started = time.perf_counter()
                result = self._one_step()
                self.step += 1
                self.seconds += time.perf_counter() - started
                self._record(result, time.perf_counter() - started)
                if self.step in validations:
                    self._validate()
                if self.step in samplings:
                    self._sample()
                if self.step in snapshots:
                    save_snapshot(self.run, self.step, self.learner.trained)
                if time.monotonic() - saved_at > plan.checkpoint_seconds:
                    self._save()
                    saved_at = time.monotonic()
                if self._stop_asked(interrupted):
                    self._save()
                    raise Stopped
            self._save()

    def _one_step(self) -> StepResult:
        plan = self.plan
        self.optimizers.set_rate_factor(rate_factor(plan.schedule, self.step, plan.steps))
        return self.learner.step(self.rows.batch(self.step * plan.rows, plan.rows))

    def _record(self, result: StepResult, seconds: float) -> None:
        if not result.updated:
            self.skips += 1
            why = "no target in the batch" if not result.targets else "loss or gradient is not finite"
            self._event("skip", why=why)
            if self.skips >= _MOST_SKIPS:
                raise OwnlmError(
                    f"{self.skips} steps in a row could not be used ({why}) in {self.run}; "
                    "lower the learning rates, or look at the data"
                )
            return
        self.skips = 0
        self._event(
            "step",
            loss=round(result.loss, 6),
            grad_norm=round(result.grad_norm, 6),
            learning_rate=self.optimizers.parts[0].param_groups[-1]["lr"],
            tokens=self.step * self.plan.rows * self.plan.context,
            tokens_per_second=round(self.plan.rows * self.plan.context / seconds, 1),
            seconds=round(self.seconds, 3),
            watt_hours=round(self.meter.watt_hours(), 6),
            energy_source=self.meter.source,
        )

    def _event(self, event: str, **facts: Any) -> None:
        self.looks.watch(self.events.write(event, self.step, **facts))

    def _validate(self) -> None:
        if self.looks.validate is None:
            return
        seen = self.looks.validate(self.model)
        if not math.isfinite(seen["loss"]):
            fix = "lower the learning rates and begin anew" if self.step else "the model's weights are damaged"
            raise OwnlmError(f"{self.run}: held-out loss after step {self.step} is no finite number; {fix}")
        self._event("validation", **seen)

    def _sample(self) -> None:
        if self.looks.sample is None:
            return
        for prompt, text in self.looks.sample(self.model):
            self.samples.append({"step": self.step, "prompt": prompt, "text": text})
            self._event("sample", prompt=prompt, text=text)

    def _save(self) -> None:
        state = {"seconds": self.seconds, "watt_hours": self.meter.watt_hours()}
        save_checkpoint(self.run, self.step, self.learner.trained, self.optimizers, state)
        self._event("checkpoint")

    def _resume(self) -> None:
        saved = checkpoints(self.run)
        if not saved:
            self.events.path.unlink(missing_ok=True)
            self.samples.path.unlink(missing_ok=True)
            self._event("start", plan=asdict(self.plan), **self.looks.facts)
            return
        self._refuse_other_inputs()
        state = load_checkpoint(saved[-1], self.learner.trained, self.optimizers, device=self.model.device)
        self.step, self.seconds, self.watt_hours = state["step"], state["seconds"], state["watt_hours"]
        self.events.forget_after(self.step)
        self.samples.forget_after(self.step)
        for event in read_events(self.events.path):
            self.looks.watch(event)
        self._event("resume")

    def _refuse_other_inputs(self) -> None:
        """What the run began with, by the hashes in its first event, is what it goes on with."""
        now = self.looks.facts.get("inputs", {})
        start = next((event for event in read_events(self.events.path) if event["event"] == "start"), {})
        for name, content in start.get("inputs", {}).items():
            if now.get(name) != content:
                raise OwnlmError(
                    f"{self.run}: its input `{name}` was changed since the run began; put it back, or begin anew with "
                    "another --out"
                )

    def _stop_asked(self, interrupted: threading.Event) -> bool:
        """Obey the control file; a pause waits here until the word is gone, or another, or Ctrl-C."""
        path = self.run / "control"
        while not interrupted.is_set():
            try:
                word = path.read_text(encoding="utf-8", errors="replace").strip()
            except FileNotFoundError:
                return False
            if word in ("", "pause"):  # an empty file is one that is being written
                time.sleep(_PAUSE_SECONDS)
                continue
            path.unlink(missing_ok=True)
            if word == "stop":
                return True
            if word == "sample":
                self._sample()
        return True


def _spread(steps: int, count: int) -> set[int]:
    """`count` steps, evenly spaced, the last included."""
    return {round(steps * (index + 1) / count) for index in range(count)} if count else set()


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Ctrl-C and a polite kill let the step end, save, and stop; a second Ctrl-C stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
