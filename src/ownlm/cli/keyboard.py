"""Keys, signals and the terminal's modes while the chat runs, and everything put back at its end.

In:  the terminal's streams.
Out: three context managers: `on_interrupt` (Ctrl-C calls a function once, then raises Leave), `quiet_keyboard`
     (keys typed during an answer are kept for the next question and not shown in between), and
     `terminal_restored` (cursor, paste mode, colours and line mode as they were, whatever ends the chat).
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TextIO

from ownlm.cli.terminal import Terminal, is_tty

try:
    import termios
except ImportError:  # Windows: prompt_toolkit alone handles the console there
    termios = None  # type: ignore[assignment,unused-ignore]

_PASTE_ON, _PASTE_OFF = "\x1b[?2004h", "\x1b[?2004l"
_AS_IT_WAS = f"{_PASTE_OFF}\x1b[0m\x1b[?25h"


class Leave(KeyboardInterrupt):
    """Ctrl-C was pressed again, before the first press had its effect: the user wants out."""


@contextlib.contextmanager
def on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C calls `stop` and lets the model end by itself; the second raises Leave."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    presses = 0

    def handle(signum: int, frame: FrameType | None) -> None:
        nonlocal presses
        presses += 1
        if presses > 1:
            raise Leave
        stop()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def quiet_keyboard(terminal: Terminal) -> Iterator[None]:
    """Keys are kept unseen for the next question; paste stays bracketed, so its lines stay one message."""
    attributes = _attributes(terminal.stdin)
    screen = terminal.screen
    if termios is None or attributes is None or screen is None or terminal.dumb:
        yield
        return
    quiet = _copy(attributes)
    quiet[0] &= ~termios.ICRNL
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    screen.write(_PASTE_ON)
    screen.flush()
    termios.tcsetattr(terminal.stdin, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(terminal.stdin, termios.TCSADRAIN, attributes)


@contextlib.contextmanager
def terminal_restored(terminal: Terminal) -> Iterator[None]:
    """On every way out, a signal to end included: the terminal's modes and its cursor as they were."""
    attributes = _attributes(terminal.stdin)
    with _ends_by_exception():
        try:
            yield
        finally:
            if termios is not None and attributes is not None:
                with contextlib.suppress(OSError, termios.error):
                    termios.tcsetattr(terminal.stdin, termios.TCSADRAIN, attributes)
            if terminal.screen is not None and not terminal.dumb:
                with contextlib.suppress(OSError):
                    terminal.screen.write(_AS_IT_WAS)
                    terminal.screen.flush()


@contextlib.contextmanager
def _ends_by_exception() -> Iterator[None]:
    """A signal that would kill at once becomes SystemExit, so that every `finally` runs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), handle) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _attributes(stream: TextIO) -> list[Any] | None:
    if termios is None or not is_tty(stream):
        return None
    try:
        return termios.tcgetattr(stream)
    except (termios.error, OSError, ValueError):
        return None


def _copy(attributes: list[Any]) -> list[Any]:
    return [*attributes[:6], list(attributes[6])]
