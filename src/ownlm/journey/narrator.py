"""Who hears of the journey. The terminal's narrator draws; this one is silent, and says what there is to hear."""

from typing import Any


class Narrator:
    """Override what you want to hear."""

    def stage(self, number: int, title: str, why: str) -> None:
        """A stage begins (1 to 6); `why` is one sentence for a newcomer."""

    def say(self, line: str) -> None:
        """A line worth keeping."""

    def cut(self, lines: list[list[str]]) -> None:
        """A few words as the tokenizer cuts them."""

    def training(self, stage: str, event: dict[str, Any]) -> None:
        """An event of a training run: see artefact/run.py. stage: pretrain, finetune or control."""

    def trained(self, stage: str) -> None:
        """The training run has ended, or stopped."""

    def summary(self, summary: dict[str, Any]) -> None:
        """All is done: the figures that report.html shows too."""
