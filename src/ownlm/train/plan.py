"""From a recipe's wishes to a fixed plan: minutes become steps by a short measurement of this machine."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ownlm.errors import OwnlmError
from ownlm.machine import has_compiler, peak_memory_bytes, probe
from ownlm.model import Decoder
from ownlm.train.batch import Batch
from ownlm.train.checkpoint import KEPT
from ownlm.train.config import Plan, TrainConfig
from ownlm.train.loop import Rows
from ownlm.train.step import Learner

# Compiling takes up to a minute on two cores and gains a quarter: a run must be longer than this to win by it.
COMPILE_FROM_MINUTES = 10.0
_PROBE_STEPS, _PROBE_SECONDS, _QUICK_SECONDS = 5, 10.0, 4.0
# Looks, samples and checkpoints take part of a run's time.
_STEPS_SHARE = 0.93


def make_plan(
    config: TrainConfig,
    model: Decoder,
    rows: Rows,
    *,
    compact_loss: bool,
    trained: nn.Module | None = None,
    seconds: float | None = None,
) -> Plan:
    """Decide everything. Nothing is changed: what the measurement trains is put back.

    `seconds` a step, where they were measured already.
    """
    machine = probe(model.device.type)
    precision, compiled = _precision(config, model), _is_compiled(config, compact_loss=compact_loss)
    steps = config.steps
    if steps is None and config.minutes is None:
        raise OwnlmError("train: how long? give steps or minutes, such as --set train.minutes=5")
    if steps is None:
        assert config.minutes is not None
        if seconds is None:
            seconds = measured(config, model, rows, compact_loss=compact_loss, trained=trained)
        steps = max(1, round(config.minutes * 60 * _STEPS_SHARE / seconds))
    return Plan(
        steps=steps,
        rows=config.rows,
        micro_rows=config.micro_rows,
        context=config.context,
        seed=config.seed,
        threads=machine.threads,
        device=machine.device,
        precision=precision,
        compile=compiled,
        compact_loss=compact_loss,
        optimizer=config.optimizer,
        schedule=config.schedule,
        evaluations=config.evaluations,
        samples=config.samples,
        checkpoint_seconds=config.checkpoint_seconds,
        snapshots=config.snapshots,
    )


def measured(
    config: TrainConfig, model: Decoder, rows: Rows, *, compact_loss: bool, trained: nn.Module | None = None
) -> float:
    """Seconds of a step as `config` will take it."""
    precision, compiled = _precision(config, model), _is_compiled(config, compact_loss=compact_loss)
    return seconds_a_step(config, model, rows, precision, compact_loss=compact_loss, compiled=compiled, trained=trained)


def expected(plan: Plan, seconds: float, trained: nn.Module, *, kept: int) -> dict[str, float]:
    """What a run will take, after `seconds` a step were measured: minutes, and bytes of memory and disk.

    Memory is the most that this process has held so far, the measurement included. `kept`: bytes of what is written in
    the end, beside the checkpoints (AdamW keeps two numbers for each that is trained).
    """
    weights = sum(value.numel() * value.element_size() for value in trained.parameters() if value.requires_grad)
    return {
        "minutes": plan.steps * seconds / _STEPS_SHARE / 60,
        "memory_bytes": peak_memory_bytes(),
        "disk_bytes": (KEPT + 1) * 3 * weights + plan.snapshots * weights // 2 + kept,
    }


def _precision(config: TrainConfig, model: Decoder) -> str:
    return probe(model.device.type).precision if config.precision == "auto" else config.precision


def _is_compiled(config: TrainConfig, *, compact_loss: bool) -> bool:
    if config.compile == "always" and not has_compiler():
        raise OwnlmError("train: compile is always, but there is no C++ compiler; install g++ or say never")
    long_enough = (config.minutes or 0.0) >= COMPILE_FROM_MINUTES
    return config.compile == "always" or (
        config.compile == "auto" and long_enough and not compact_loss and has_compiler()
    )


def seconds_a_step(
    config: TrainConfig,
    model: Decoder,
    rows: Rows,
    precision: str,
    *,
    compact_loss: bool,
    compiled: bool,
    trained: nn.Module | None = None,
) -> float:
    """Of the real model, which is as it was afterwards: large ones leave no room for a copy of all."""
    learner = Learner.of(
        model,
        config.optimizer,
        trained=trained,
        precision=precision,
        micro_rows=config.micro_rows,
        compact=compact_loss,
        compiled=compiled,
    )
    at_once = min(config.micro_rows or config.rows, config.rows)
    with _put_back(learner.trained):
        first = _seconds(learner, rows.batch(0, at_once))
        # Where a step takes long, its parts take as long as each other, and what comes after them hardly counts.
        parts = 1 if first * config.rows / at_once < _QUICK_SECONDS else -(-config.rows // at_once)
        size = config.rows if parts == 1 else at_once
        times: list[float] = []
        while len(times) < _PROBE_STEPS and (not times or sum(times) < _PROBE_SECONDS):
            times.append(_seconds(learner, rows.batch((len(times) + 1) * config.rows, size)))
    # The first step compiles and allocates; of the others the quickest, for what disturbs only ever slows down.
    return min(times) * parts


def _seconds(learner: Learner, batch: Batch) -> float:
    started = time.perf_counter()
    learner.step(batch)
    return time.perf_counter() - started


@contextmanager
def _put_back(trained: nn.Module) -> Iterator[None]:
    """What is trained meanwhile has its values, gradients and mode of before afterwards."""
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in parameters]
    training = trained.training
    trained.train()
    try:
        yield
    finally:
        trained.train(training)
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)
                parameter.grad = None
