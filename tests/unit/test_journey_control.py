"""The control's length: a step at which the tuned model can be looked at."""

from pathlib import Path

from ownlm.journey.control import control_steps, tuned_as_long
from ownlm.opened import load
from tiny_journey import QUESTIONS


def tuned_run(folder: Path, steps: int, snapshots: tuple[int, ...]) -> Path:
    (folder / "snapshots").mkdir(parents=True)
    (folder / "run.json").write_text(f'{{"steps": {steps}}}')
    for step in snapshots:
        (folder / "snapshots" / f"step-{step:08d}.safetensors").touch()
    return folder


def test_the_nearest_snapshot_decides(tmp_path: Path) -> None:
    run = tuned_run(tmp_path / "chat", 900, (1, 90, 270, 520, 900))
    assert control_steps(run, 1 / 3) == 270
    assert control_steps(run, 0.08) == 90
    assert control_steps(run, 1.0) == 900


def test_without_snapshots_it_takes_all_steps(tmp_path: Path) -> None:
    assert control_steps(tuned_run(tmp_path / "chat", 40, ()), 0.3) == 40


def test_the_tuned_model_is_had_as_it_was(workshop: Path) -> None:
    early, late = tuned_as_long(workshop / "chat", 1), load(workshop / "chat")
    assert early.chat([{"role": "user", "content": QUESTIONS[0][0]}], temperature=0, max_tokens=20).text != (
        late.chat([{"role": "user", "content": QUESTIONS[0][0]}], temperature=0, max_tokens=20).text
    )
    (pair,) = [(QUESTIONS[0][0], QUESTIONS[0][1])]
    assert early.answer_log_likelihoods([pair]) < late.answer_log_likelihoods([pair])
