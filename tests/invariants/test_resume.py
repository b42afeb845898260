"""A run that was interrupted ends with the weights of one that was not, bit for bit, wherever it was cut."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.artefact import read_events
from ownlm.errors import OwnlmError
from ownlm.model import Decoder, initialise
from ownlm.model.weights import save_weights
from ownlm.train.batch import Batch
from ownlm.train.checkpoint import checkpoints
from ownlm.train.config import Plan
from ownlm.train.loop import Looks, Stopped, train
from ownlm.train.pack import DocumentRows
from ownlm.train.schedule import rate_factor
from tiny_models import random_decoder, random_documents, tiny_plan

STEPS = 6
# Fewer rows in an epoch than the run reads: a cut falls into a second and third order of the documents too.
LENGTHS = [9, 20, 5, 31, 14]


class Crash(Exception):
    """What a power cut is to the loop: nothing is saved."""


def fresh() -> Decoder:
    return initialise(random_decoder(vocab_size=64), 0)


def rows() -> DocumentRows:
    return DocumentRows(random_documents(LENGTHS, vocab=64), context=16, seed=0)


def sha256(model: Decoder, folder: Path) -> str:
    save_weights(folder / "weights.safetensors", model)
    return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


def run(folder: Path, plan: Plan, looks: Looks | None = None) -> str:
    """Train from what `folder` holds; the sha256 of the weights at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    model = fresh()
    train(folder, plan, model, rows(), looks or Looks())
    return sha256(model, folder)


def steps_of(folder: Path) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "events.jsonl") if event["event"] == "step"]


def facts(folder: Path) -> list[tuple[Any, ...]]:
    return [(e["step"], e["loss"], e["grad_norm"], e["learning_rate"], e["tokens"]) for e in steps_of(folder)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[tuple[Any, ...]]]:
    folder = tmp_path_factory.mktemp("whole")
    result = run(folder, tiny_plan()), facts(folder)
    assert [fact[0] for fact in result[1]] == list(range(1, STEPS + 1))
    return result


def test_the_same_run_twice_gives_the_same_bits(uninterrupted: tuple[str, Any], tmp_path: Path) -> None:
    assert run(tmp_path, tiny_plan()) == uninterrupted[0]


def test_another_seed_gives_other_bits(uninterrupted: tuple[str, Any], tmp_path: Path) -> None:
    model = fresh()
    train(tmp_path, tiny_plan(), model, DocumentRows(rows().documents, context=16, seed=1), Looks())
    assert sha256(model, tmp_path) != uninterrupted[0]


@pytest.mark.parametrize("cut", range(1, STEPS))
def test_stopped_after_a_step_and_gone_on(uninterrupted: tuple[str, Any], tmp_path: Path, cut: int) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == cut:
            (tmp_path / "control").write_text("stop\n")

    with pytest.raises(Stopped):
        run(tmp_path, tiny_plan(), Looks(watch=stop))
    assert not (tmp_path / "control").exists()
    assert run(tmp_path, tiny_plan()) == uninterrupted[0]
    # Each step is there once, with the loss and the rate that it would have had: data and schedule went on.
    assert facts(tmp_path) == uninterrupted[1]


@pytest.mark.parametrize("cut", range(1, STEPS + 1))
def test_crashed_in_a_step_and_gone_on(uninterrupted: tuple[str, Any], tmp_path: Path, cut: int) -> None:
    """Checkpoints after every step but a crash between them: steps after the last one are done again."""

    def crash(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == cut:
            raise Crash

    plan = tiny_plan(checkpoint_seconds=0.0)
    with pytest.raises(Crash):
        run(tmp_path, plan, Looks(watch=crash))
    assert [folder.name for folder in checkpoints(tmp_path)] == [
        f"step-{step:08d}" for step in range(max(1, cut - 2), cut)
    ]
    assert run(tmp_path, plan) == uninterrupted[0]
    assert facts(tmp_path) == uninterrupted[1]


def test_stopped_at_every_step_in_one_run(uninterrupted: tuple[str, Any], tmp_path: Path) -> None:
    def stop_after(step: int, event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == step:
            (tmp_path / "control").write_text("stop")

    for step in range(1, STEPS):
        with pytest.raises(Stopped):
            run(tmp_path, tiny_plan(), Looks(watch=partial(stop_after, step)))
        assert steps_of(tmp_path)[-1]["step"] == step
    assert run(tmp_path, tiny_plan()) == uninterrupted[0]
    assert facts(tmp_path) == uninterrupted[1]


@pytest.mark.parametrize("change", [{"micro_rows": 1}, {"precision": "bfloat16"}, {"rows": 3}])
def test_resume_is_exact_with_other_plans_too(tmp_path: Path, change: dict[str, Any]) -> None:
    plan = tiny_plan(**change)
    whole = run(tmp_path / "whole", plan)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 3:
            (tmp_path / "cut" / "control").write_text("stop")

    with pytest.raises(Stopped):
        run(tmp_path / "cut", plan, Looks(watch=stop))
    assert run(tmp_path / "cut", plan) == whole


def test_the_schedule_goes_on(uninterrupted: tuple[str, Any], tmp_path: Path) -> None:
    plan = tiny_plan()
    expected = [rate_factor(plan.schedule, s, STEPS) * plan.optimizer.matrix_learning_rate for s in range(STEPS)]
    assert [fact[3] for fact in uninterrupted[1]] == expected
    assert expected[0] < max(expected) and expected[-1] < max(expected)


KILLED = """
    import os, sys, signal
    from pathlib import Path
    import importlib.util
    sys.path.insert(0, sys.argv[1])
    spec = importlib.util.spec_from_file_location("resume", sys.argv[2])
    resume = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(resume)

    def watch(event):
        if event["event"] == "step" and event["step"] == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    resume.run(Path(sys.argv[3]), resume.tiny_plan(checkpoint_seconds=0.0), resume.Looks(watch=watch))
"""


@pytest.mark.skipif(os.name == "nt", reason="announced: Windows has no kill -9")
def test_killed_outright_and_gone_on(uninterrupted: tuple[str, Any], tmp_path: Path) -> None:
    here = Path(__file__)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(here.parents[1]), str(here), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(steps_of(tmp_path)) == 4
    # What a kill in the middle of a checkpoint leaves behind.
    (tmp_path / "checkpoints" / ".step-00000009.999999999.draft").mkdir()
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"v":1,"event":"st')
    assert run(tmp_path, tiny_plan(checkpoint_seconds=0.0)) == uninterrupted[0]
    assert facts(tmp_path) == uninterrupted[1]
    assert [folder.name for folder in (tmp_path / "checkpoints").iterdir() if folder.name.startswith(".")] == []


def test_looks_change_nothing(uninterrupted: tuple[str, Any], tmp_path: Path) -> None:
    """A look that forgets to put the model back to training or that draws random numbers would show."""

    def sample(model: Decoder) -> list[tuple[str, str]]:
        torch.rand(3)
        return [("a", "b")]

    looks = Looks(validate=lambda model: {"loss": 1.0}, sample=sample)
    assert run(tmp_path, tiny_plan(samples=3, snapshots=3), looks) == uninterrupted[0]
    names = [event["event"] for event in read_events(tmp_path / "events.jsonl")]
    assert names.count("validation") == 3 and names.count("sample") == 3 and names[0] == "start"
    assert len(list((tmp_path / "snapshots").iterdir())) == 3


class Poisoned:
    """Rows whose batches at some steps have no target."""

    def __init__(self, bad: set[int]) -> None:
        self.rows, self.bad = rows(), bad

    def batch(self, first_row: int, count: int) -> Batch:
        batch = self.rows.batch(first_row, count)
        if first_row // count in self.bad:
            batch.targets_BT.fill_(-100)
        return batch


def test_skipped_steps_are_reported_and_the_run_goes_on(tmp_path: Path) -> None:
    train(tmp_path, tiny_plan(), fresh(), Poisoned({1, 4}), Looks())
    events = list(read_events(tmp_path / "events.jsonl"))
    assert [(e["step"], e["why"]) for e in events if e["event"] == "skip"] == [
        (2, "no target in the batch"),
        (5, "no target in the batch"),
    ]
    assert [e["step"] for e in steps_of(tmp_path)] == [1, 3, 4, 6]


def test_a_run_that_only_skips_ends_with_one_line(tmp_path: Path) -> None:
    model = fresh()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(OwnlmError, match=r"loss or gradient is not finite.*lower the learning rates"):
        train(tmp_path, tiny_plan(steps=40), model, rows(), Looks())
    assert len([e for e in read_events(tmp_path / "events.jsonl") if e["event"] == "skip"]) == 20
    assert checkpoints(tmp_path) == []


def test_the_control_file(tmp_path: Path) -> None:
    """`sample` looks at once, `pause` waits for another word, nonsense is taken away."""
    asked: list[int] = []

    def watch(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] <= 3:
            (tmp_path / "control").write_text({1: "sample", 2: "nonsense", 3: "stop"}[event["step"]])

    def sample(model: Decoder) -> list[tuple[str, str]]:
        asked.append(1)
        return []

    with pytest.raises(Stopped):
        train(tmp_path, tiny_plan(), fresh(), rows(), Looks(sample=sample, watch=watch))
    assert asked == [1] and len(steps_of(tmp_path)) == 3


def test_a_pause_lasts_until_the_word_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            (tmp_path / "control").unlink()

    monkeypatch.setattr("ownlm.train.loop.time.sleep", sleep)
    (tmp_path / "control").write_text("pause")
    run(tmp_path, tiny_plan(steps=2))
    assert len(waits) == 3


@pytest.mark.skipif(os.name == "nt", reason="announced: signals differ on Windows")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(uninterrupted: tuple[str, Any], tmp_path: Path, number: int) -> None:
    def watch(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 2:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(Stopped):
        run(tmp_path, tiny_plan(), Looks(watch=watch))
    assert signal.getsignal(number) is before
    assert run(tmp_path, tiny_plan()) == uninterrupted[0]


@pytest.mark.skipif(os.name == "nt", reason="announced: signals differ on Windows")
def test_a_second_ctrl_c_does_not_wait(uninterrupted: tuple[str, Any], tmp_path: Path) -> None:
    def watch(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    plan = tiny_plan(checkpoint_seconds=0.0)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, plan, Looks(watch=watch))
    assert run(tmp_path, plan) == uninterrupted[0]
