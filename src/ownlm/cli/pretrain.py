"""`ownlm pretrain`: tokens into a base model."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def pretrain(
    recipe: Path, *, set_: Annotated[tuple[str, ...], Parameter(name="--set", show_default=False)] = ()
) -> int:
    """Train a base model by RECIPE, a YAML file; the same command goes on after a stop.

    Example: ownlm pretrain mine.yaml --set train.minutes=30

    Parameters
    ----------
    recipe
        A file with tokens, tokenizer, out, model and train; docs/recipes.md lists every key.
    set_
        One value of the recipe, such as train.rows=8.
    """
    from ownlm.artefact.recipe import read_recipe
    from ownlm.cli.watch_training import watched
    from ownlm.train import PretrainRecipe
    from ownlm.train import pretrain as train

    parsed = read_recipe(recipe, PretrainRecipe, set_)
    return watched(lambda on_event: train(parsed, on_event=on_event), sys.stdout, asks=False)
