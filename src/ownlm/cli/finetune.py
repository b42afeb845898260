"""`ownlm finetune`: a base model into one that answers."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def finetune(
    recipe: Path,
    *,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", show_default=False)] = (),
    inspect: Annotated[bool, Parameter(negative="")] = False,
    rows: int = 2,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Tune a model on conversations by RECIPE, a YAML file; the same command goes on after a stop.

    Example: ownlm finetune mine.yaml --set train.minutes=5

    Look first: ownlm finetune mine.yaml --inspect

    Parameters
    ----------
    recipe
        A file with model, conversations, out and train; docs/recipes.md lists every key.
    set_
        One value of the recipe, such as train.rows=8.
    inspect
        Show what the loss will see, token by token, and the figures of the set; no step is taken.
    rows
        With --inspect: how many rows to show.
    json
        With --inspect: ids, texts, masks and figures as one JSON object.
    """
    from ownlm.artefact.recipe import read_recipe
    from ownlm.cli.open_model import fetch_if_starter
    from ownlm.cli.watch_training import watched
    from ownlm.train import FinetuneRecipe
    from ownlm.train import finetune as tune

    parsed = read_recipe(recipe, FinetuneRecipe, set_)
    if inspect:
        from ownlm.cli.inspect_training import inspect_training

        return inspect_training(parsed, rows=rows, json=json)
    fetch_if_starter(parsed.model)
    return watched(lambda on_event: tune(parsed, on_event=on_event), sys.stdout, asks=True)
