"""A training command with its view around it."""

from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from rich.console import Console

from ownlm.artefact import Watch
from ownlm.cli.training_view import TrainingView
from ownlm.train import Stopped


def watched(work: Callable[[Watch], Path], stream: TextIO, *, asks: bool) -> int:
    """Run `work`, show its events, say where the model lies; 130 when it was stopped and saved."""
    console = Console(file=stream, highlight=False)
    view = TrainingView(console, asks=asks)
    folder = None
    try:
        folder = work(view.hear)
    except Stopped:
        pass
    finally:
        view.close()
    if folder is None:
        console.print("stopped and saved; the same command, with the same --set values, goes on from here")
        return 130
    console.print(f"the model lies in {folder}")
    return 0
