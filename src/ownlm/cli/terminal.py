"""The terminal: what may be written to it, in which colours, and how wide it is.

In:  three streams (stdin, stdout, stderr), the choice of --color, the environment.
Out: `Terminal`, which writes answers to stdout and everything else to stderr.
"""

import contextlib
import os
from collections.abc import Mapping
from typing import Literal, TextIO

from ownlm.cli.screen_text import DIM, safe_text, styled
from ownlm.cli.wrap import wrap_text

ColorChoice = Literal["auto", "always", "never"]


def is_tty(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def use_color(stream: TextIO, choice: ColorChoice, environ: Mapping[str, str]) -> bool:
    """Colour if asked for, else only on a terminal that can, whose user has not set NO_COLOR."""
    if choice != "auto":
        return choice == "always"
    return is_tty(stream) and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def forget_output(stream: TextIO) -> None:
    """The reader of a pipe has left: Python's own flush at exit must not complain of it again."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def terminal_columns(stream: TextIO) -> int | None:
    """Columns of the terminal at this moment; None if it is none, which means: do not wrap."""
    if not is_tty(stream):
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


class Terminal:
    """Answers go to stdout, all else to stderr, in the order in which they were written."""

    def __init__(
        self,
        stdin: TextIO,
        stdout: TextIO,
        stderr: TextIO,
        *,
        color: ColorChoice = "auto",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.dumb = environ.get("TERM") == "dumb"
        self.color_out = use_color(stdout, color, environ)
        self.color_err = use_color(stderr, color, environ)

    @property
    def screen(self) -> TextIO | None:
        """Where a prompt can be drawn: stderr, so that `> file` catches answers only; else stdout."""
        return next((stream for stream in (self.stderr, self.stdout) if is_tty(stream)), None)

    @property
    def interactive(self) -> bool:
        return is_tty(self.stdin) and self.screen is not None

    def columns(self) -> int | None:
        return terminal_columns(self.stdout)

    def answer(self, text: str) -> None:
        """Write a part of the answer, at once."""
        if text:
            _write(self.stdout, text)

    def aside(self, text: str, style: str = DIM) -> None:
        """Write a part of something beside the answer, at once; it is safe and wrapped already."""
        if text:
            self.stdout.flush()
            _write(self.stderr, styled(text, style) if self.color_err else text)

    def note(self, text: str, style: str = DIM) -> None:
        """Write whole lines beside the answer, wrapped at words if the reader is at a terminal."""
        self.stdout.flush()
        lines = wrap_text(safe_text(text), terminal_columns(self.stderr)).split("\n")
        if self.color_err:
            lines = [styled(line, style) for line in lines]
        _write(self.stderr, "\n".join(lines) + "\n")


def _write(stream: TextIO, text: str) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    # A locale that has no such letter gets its number, never a traceback.
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()
