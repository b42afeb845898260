"""From a recipe's wishes to a fixed plan: minutes become steps by a short measurement of this machine."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ownlm.errors import OwnlmError
from ownlm.machine import has_compiler, probe
from ownlm.model import Decoder
from ownlm.train.config import Plan, TrainConfig
from ownlm.train.loop import Rows
from ownlm.train.step import Learner

# Compiling takes up to a minute on two cores and gains a quarter: a run must be longer than this to win by it.
COMPILE_FROM_MINUTES = 10.0
_PROBE_STEPS, _PROBE_SECONDS = 5, 20.0
# Looks, samples and checkpoints take part of a run's time.
_STEPS_SHARE = 0.93


def make_plan(
    config: TrainConfig, model: Decoder, rows: Rows, *, compact_loss: bool, trained: nn.Module | None = None
) -> Plan:
    """Decide everything. Nothing is changed: what the measurement trains is put back."""
    machine = probe(model.device.type)
    precision = machine.precision if config.precision == "auto" else config.precision
    if config.compile == "always" and not has_compiler():
        raise OwnlmError("train: compile is always, but there is no C++ compiler; install g++ or say never")
    long_enough = (config.minutes or 0.0) >= COMPILE_FROM_MINUTES
    compiled = config.compile == "always" or (
        config.compile == "auto" and long_enough and not compact_loss and has_compiler()
    )
    steps = config.steps
    if steps is None and config.minutes is None:
        raise OwnlmError("train: how long? give steps or minutes, such as --set train.minutes=5")
    if steps is None:
        assert config.minutes is not None
        seconds = seconds_a_step(
            config, model, rows, precision, compact_loss=compact_loss, compiled=compiled, trained=trained
        )
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
    times: list[float] = []
    with _put_back(learner.trained):
        while len(times) < _PROBE_STEPS + 1 and (len(times) < 2 or sum(times) < _PROBE_SECONDS):
            started = time.perf_counter()
            learner.step(rows.batch(len(times) * config.rows, config.rows))
            times.append(time.perf_counter() - started)
    # The first step compiles and allocates; of the others the quickest, for what disturbs only ever slows down.
    return min(times[1:])


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
