"""The control: the same tuning of a model that has read nothing, to see what reading was for.

It takes as many steps as stand before one of the tuning's snapshots, and is compared with that snapshot, so that
reading is the only difference between the two; the minutes of the rest go to the model that is kept.
"""

import json
from pathlib import Path

from ownlm.model.weights import load_weights
from ownlm.opened import Model, load
from ownlm.train.checkpoint import snapshots


def control_steps(tuned: Path, share: float) -> int:
    """The step of the snapshot that lies nearest to `share` of the tuning in the run `tuned`."""
    steps: int = json.loads((tuned / "run.json").read_text(encoding="utf-8"))["steps"]
    return min({*snapshots(tuned), steps}, key=lambda step: abs(step - share * steps))


def tuned_as_long(tuned: Path, steps: int) -> Model:
    """The tuned model as it was after `steps` steps."""
    model = load(tuned, dtype="float32")
    if (snapshot := snapshots(tuned).get(steps)) is not None:
        load_weights(snapshot, model.decoder)
    return model
