"""What steers a corpus: which text, how much of it, what is held out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ownlm.errors import OwnlmError

# How likely a file is to be taken early, by "source/kind"; infinite: before all others. The standard library
# is what a beginner asks about. The next ones document functions the way it does, in plain sentences;
# sympy's examples are formulas and Pygments' classes are lists of words.
DEFAULT_WEIGHTS: Mapping[str, float] = {
    "python/prose": math.inf,
    "python/code": math.inf,
    "numpy/prose": 6.0,
    "networkx/prose": 6.0,
    "pydantic/prose": 3.0,
    "rich/prose": 3.0,
    "click/prose": 3.0,
    "torch/prose": 2.0,
    "huggingface-hub/prose": 0.5,
    "sympy/prose": 0.5,
    "pygments/prose": 0.2,
    "*/prose": 2.0,
    "sympy/code": 0.2,
    "pygments/code": 0.2,
    "torch/code": 0.3,
    "*/code": 1.0,
}


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """`text`: None for the Python that is installed, a folder (or file), or "hub:NAME".

    `prose_megabytes` and `code_megabytes` bound the training text of the default material, `example_megabytes` says
    how much of worked examples joins it, and `max_megabytes` bounds the user's text. A validation slice takes about
    `validation_share` of the documents it is drawn from and at most `validation_kilobytes`. `near_duplicate` is the
    Jaccard similarity above which two documents are one.
    """

    text: str | None = None
    prose_megabytes: float = 8.0
    code_megabytes: float = 8.0
    example_megabytes: float = 1.0
    max_megabytes: float = 16.0
    validation_share: float = 0.06
    validation_kilobytes: int = 300
    # A whole package that is never trained on: pure Python, BSD-licensed, documented throughout, small, and
    # neither copied nor imitated by any other of the material.
    held_out_package: str = "jinja2"
    near_duplicate: float = 0.7
    seed: int = 0
    weights: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))

    def __post_init__(self) -> None:
        if self.text == "":
            raise OwnlmError("text is empty; name a folder of documents, or leave it out")
        sizes = ("prose_megabytes", "code_megabytes", "example_megabytes", "max_megabytes", "validation_kilobytes")
        for name in sizes:
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise OwnlmError(f"{name} is {value}; give a number of 0 or more")
        if self.max_megabytes == 0 or self.prose_megabytes + self.code_megabytes == 0:
            raise OwnlmError("a corpus of 0 megabytes is asked for; raise max_megabytes or prose_megabytes")
        if not 0 < self.validation_share <= 0.5:
            raise OwnlmError(f"validation_share is {self.validation_share}; give a share above 0 and up to 0.5")
        if not 0 < self.near_duplicate <= 1:
            raise OwnlmError(f"near_duplicate is {self.near_duplicate}; give a similarity above 0 and up to 1")
        for key, weight in self.weights.items():
            if not weight >= 0 or "/" not in key:
                raise OwnlmError(f'weights has "{key}": {weight}; give "source/kind" and a weight of 0 or more')

    def weight(self, source: str, kind: str) -> float:
        return self.weights.get(f"{source}/{kind}", self.weights.get(f"*/{kind}", 1.0))

    def as_card(self) -> dict[str, Any]:
        """The configuration as card.json holds it: JSON has no infinity, and a home folder is no one's business."""
        fields = {name: value for name, value in vars(self).items() if name != "weights"}
        if self.text is not None and not self.text.startswith("hub:"):
            fields["text"] = self.text.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
        fields["weights"] = {key: "all" if math.isinf(w) else w for key, w in sorted(self.weights.items())}
        return fields
