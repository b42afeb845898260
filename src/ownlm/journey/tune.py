"""Fine-tuning with its proof: the same questions asked before and after.

recipe ──finetune──▶ model or adapter folder ──evaluate, against the base──▶ evaluation/ in the run's folder
                                                                         └──▶ README.md, the model's card
"""

import json
from dataclasses import dataclass, fields
from pathlib import Path

from ownlm.artefact import Watch, read_card, write_atomically
from ownlm.artefact.card import CARD_NAME
from ownlm.errors import OwnlmError
from ownlm.evaluation import Evaluation, evaluate
from ownlm.evaluation.read_task import read_task
from ownlm.evaluation.results import RESULTS
from ownlm.evaluation.run import Progress
from ownlm.evaluation.tasks.answers import MOST_TOKENS
from ownlm.opened import load
from ownlm.report.tuning_card import tuning_card
from ownlm.train import FinetuneRecipe, finetune
from ownlm.train.run_folder import is_first_readme

EVALUATION = "evaluation"
# The run's own conversations, which are known only once they are made.
HELD_OUT = "held-out"


@dataclass(frozen=True, kw_only=True)
class TuneRecipe(FinetuneRecipe):
    """A fine-tuning that is measured: `measure` are tasks as `ownlm evaluate` takes them, with "held-out" for the
    conversations that were held out ("translation=held-out"); the first `measure_items` items of each are asked, and
    answers of at most `measure_tokens` written. `notice` is said with the model wherever it goes, such as "Not advice".
    """

    measure: tuple[str, ...] = ()
    measure_items: int = 50
    measure_tokens: int = MOST_TOKENS
    notice: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("measure_items", "measure_tokens"):
            if getattr(self, name) < 1:
                raise OwnlmError(f"{name} must be at least 1, got {getattr(self, name)}")


def tune(
    recipe: TuneRecipe, *, on_event: Watch = lambda event: None, progress: Progress | None = None
) -> tuple[Path, Evaluation | None]:
    """Tune by `recipe`, or go on with it; measure before and after where it says so.

    Returns the run's folder, and what was measured now. Raises train.Stopped when asked to stop.
    """
    for task in recipe.measure:
        if task.rpartition("=")[2] != HELD_OUT:
            read_task(task, limit=1)  # what is wrong with it is said now, not after the training
    own = {entry.name: getattr(recipe, entry.name) for entry in fields(FinetuneRecipe)}
    run = finetune(FinetuneRecipe(**own), on_event=on_event)
    found = None
    if recipe.measure and not (run / EVALUATION / CARD_NAME).is_file():
        found = measure(run, recipe, progress=progress)
        found.save(run / EVALUATION)
    # Once it is written it is the user's, who may have edited it.
    if found is not None or is_first_readme(run):
        results = run / EVALUATION / RESULTS
        measured = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else None
        text = tuning_card(vars(read_card(run)), measured, name=run.name, notice=recipe.notice)
        write_atomically(run / "README.md", text)
    return run, found


def measure(run: Path, recipe: TuneRecipe, *, progress: Progress | None = None) -> Evaluation:
    """The tuned model against the one that it was made from."""
    tasks = []
    for task in recipe.measure:
        name, equals, what = task.rpartition("=")
        tasks.append(f"{name}{equals}{recipe.data(run)}" if what == HELD_OUT else task)
    tuned, base = load(run, dtype="float32"), load(recipe.model, dtype="float32")
    chat = tuned.template is not None
    # A base that was never tuned to chat cannot be asked as one.
    vs = None if chat and base.template is None else base
    limit, max_tokens = recipe.measure_items, recipe.measure_tokens
    return evaluate(tuned, tasks, vs=vs, limit=limit, max_tokens=max_tokens, chat=chat, progress=progress)
