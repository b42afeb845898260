"""Opening what a user wrote as MODEL: asked on the terminal before a starter is fetched, then how far that is.

Questions and progress go to stderr; stdout is the command's own. Where nobody sits at a terminal nothing is
asked, and so nothing is fetched.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ownlm.cli.terminal import is_tty, terminal_columns
from ownlm.cli.wrap import wrap_text

if TYPE_CHECKING:
    from ownlm.model.arithmetic import Dtype
    from ownlm.model.locate import Ask
    from ownlm.opened import Model


def open_model(model: str | Path, *, dtype: "Dtype" = "auto") -> "Model":
    """To be asked, not saved: so in what is fastest here, unless a command asks for another."""
    from ownlm.opened import load

    with ProgressLine() as progress:
        return load(model, dtype=dtype, ask=asker(), progress=progress)


def model_to_ask(name: str | Path, *, adapter: Path | None = None, speculate: str | None = None) -> "Model":
    """Opened, with the adapter that --adapter names, and guessing as --speculate says: "lookup", or a MODEL."""
    model = open_model(name)
    model.use_adapter(adapter)
    if speculate is not None:
        model.speculate("lookup" if speculate == "lookup" else open_model(speculate))
    return model


def locate_model(model: str | Path) -> Path:
    """The folder or file that `model` stands for, for a command that opens its files and no more."""
    from ownlm.model.locate import locate

    with ProgressLine() as progress:
        return locate(model, ask=asker(), progress=progress)


def fetch_if_starter(model: str) -> None:
    """For a command that opens MODEL later, where nobody is asked."""
    from ownlm.model.locate import is_path, locate
    from ownlm.model.starters import STARTERS

    if model in STARTERS and not is_path(model):
        with ProgressLine() as progress:
            locate(model, ask=asker(), progress=progress)


def asker() -> "Ask | None":
    """The question on this terminal, or None where there is none to ask on."""
    return ask if is_tty(sys.stdin) and is_tty(sys.stderr) else None


def ask(question: str) -> bool:
    sys.stdout.flush()
    sys.stderr.write(wrap_text(f"{question} [y/N]", terminal_columns(sys.stderr)) + " ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        sys.stderr.write("\n")
    return answer.strip().lower() in ("y", "yes")


class ProgressLine:
    """Called with bytes so far and in all: one line that is written over on a terminal, one a quarter elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.live = is_tty(self.stream)
        self._begun: float | None = None
        self._shown = 0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        self._begun = now if self._begun is None else self._begun
        percent = 100 * done // total
        if not self.live:
            if percent // 25 > self._shown:
                self._shown = percent // 25
                self._write(f"  {done / 1e6:.0f} of {total / 1e6:.0f} MB\n")
            return
        rate = done / max(now - self._begun, 1e-3)
        left = f", {(total - done) / rate:.0f} s left" if now - self._begun > 1 and 0 < done < total else ""
        self._write(f"\r\x1b[K  {percent:3d} %  {done / 1e6:.0f} of {total / 1e6:.0f} MB{left}")

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(self, *_: object) -> None:
        if self.live and self._begun is not None:
            self._write("\n")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()
