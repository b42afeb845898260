"""`ownlm finetune`: a base model into one that answers."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from ownlm.artefact import Watch
    from ownlm.evaluation import Evaluation


def finetune(
    recipe: Path,
    *,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", show_default=False)] = (),
    inspect: Annotated[bool, Parameter(negative="")] = False,
    show_recipe: Annotated[bool, Parameter(negative="")] = False,
    rows: int = 2,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Tune a model on conversations or documents by RECIPE; the same command goes on after a stop.

    Example: ownlm finetune chat --set conversations=talks.jsonl --set out=runs/mine

    Look first: ownlm finetune mine.yaml --inspect

    Parameters
    ----------
    recipe
        A YAML file (docs/recipes.md lists every key), or one of ours: chat, your-documents, translate, medical, legal.
    set_
        One value of the recipe, such as train.rows=8.
    inspect
        Show what the loss will see, token by token, and the figures of the set; no step is taken.
    show_recipe
        Print one of our recipes, to begin your own with.
    rows
        With --inspect: how many rows to show.
    json
        With --inspect: ids, texts, masks and figures as one JSON object.
    """
    from ownlm.artefact.recipe import packaged_recipe, read_recipe
    from ownlm.cli.evaluate import EvaluationLine, print_evaluation
    from ownlm.cli.open_model import fetch_if_starter
    from ownlm.cli.watch_training import watched
    from ownlm.journey import TuneRecipe, tune

    if show_recipe:
        sys.stdout.write(packaged_recipe(str(recipe)))
        return 0
    parsed = read_recipe(recipe, TuneRecipe, set_)
    if inspect:
        from ownlm.cli.inspect_training import inspect_training

        return inspect_training(parsed, rows=rows, json=json)
    fetch_if_starter(parsed.model)
    found: list[Evaluation] = []

    def work(on_event: "Watch") -> Path:
        with EvaluationLine() as line:
            run, measured = tune(parsed, on_event=on_event, progress=line)
        found.extend([] if measured is None else [measured])
        return run

    code = watched(work, sys.stdout, asks=True)
    for measured in found:
        print_evaluation(measured)
    if code == 0 and parsed.notice:
        sys.stdout.write(parsed.notice + "\n")
    return code
