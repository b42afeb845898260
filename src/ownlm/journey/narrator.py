"""Who hears of the journey. The terminal's narrator draws; this one is silent, and says what there is to hear."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ownlm.evaluation import Evaluation


class Narrator:
    """Override what you want to hear. `stages`: how many there will be."""

    stages = 6

    def stage(self, number: int, title: str, why: str) -> None:
        """A stage begins, from 1 on; `why` is one sentence for a newcomer."""

    def say(self, line: str) -> None:
        """A line worth keeping."""

    def cut(self, lines: list[list[str]]) -> None:
        """A few words as the tokenizer cuts them."""

    def training(self, stage: str, event: dict[str, Any]) -> None:
        """An event of a training run: see artefact/run.py. stage: pretrain, finetune or control."""

    def trained(self, stage: str) -> None:
        """The training run has ended, or stopped."""

    def measured(self, evaluation: "Evaluation") -> None:
        """The same questions were asked of a model before and after its tuning."""

    def summary(self, summary: dict[str, Any]) -> None:
        """All is done: the figures that report.html shows too."""
