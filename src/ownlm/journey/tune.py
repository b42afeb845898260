"""Fine-tuning with its proof: the same questions asked before and after.

recipe ──finetune──▶ model or adapter folder ──evaluate, against the base──▶ evaluation/ in the run's folder
"""

from dataclasses import dataclass, fields
from pathlib import Path

from ownlm.artefact import Watch
from ownlm.artefact.card import CARD_NAME
from ownlm.errors import OwnlmError
from ownlm.evaluation import Evaluation, evaluate
from ownlm.evaluation.read_task import read_task
from ownlm.evaluation.run import Progress
from ownlm.train import FinetuneRecipe, finetune

EVALUATION = "evaluation"
# The run's own conversations, as they were held out: known only once they are made.
HELD_OUT = "held-out"


@dataclass(frozen=True, kw_only=True)
class TuneRecipe(FinetuneRecipe):
    """A fine-tuning that is measured: `measure` are tasks as `ownlm evaluate` takes them, and "held-out" for the
    answers of the conversations that were held out; the first `measure_items` items of each are asked.
    """

    measure: tuple[str, ...] = ()
    measure_items: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.measure_items < 1:
            raise OwnlmError(f"measure_items must be at least 1, got {self.measure_items}")


def tune(recipe: FinetuneRecipe, *, on_event: Watch = lambda event: None, progress: Progress | None = None) -> Path:
    """Tune by `recipe`, or go on with it; measure before and after where it says so. Returns the run's folder.

    Raises train.Stopped when asked to stop.
    """
    if not isinstance(recipe, TuneRecipe):
        return finetune(recipe, on_event=on_event)
    for task in recipe.measure:
        if task != HELD_OUT:
            read_task(task, limit=1)  # what is wrong with it is said now, not after the training
    own = {entry.name: getattr(recipe, entry.name) for entry in fields(FinetuneRecipe)}
    run = finetune(FinetuneRecipe(**own), on_event=on_event)
    if recipe.measure and not (run / EVALUATION / CARD_NAME).is_file():
        measure(run, recipe, progress=progress).save(run / EVALUATION)
    return run


def measure(run: Path, recipe: TuneRecipe, *, progress: Progress | None = None) -> Evaluation:
    """The tuned model against the one that it was made from."""
    built = run / "conversations"
    held_out = built if built.is_dir() else Path(recipe.conversations)
    tasks = [str(held_out) if task == HELD_OUT else task for task in recipe.measure]
    return evaluate(run, tasks, vs=recipe.model, limit=recipe.measure_items, chat=True, progress=progress)
