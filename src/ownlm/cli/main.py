"""`ownlm`: one verb a stage. Parses, calls one function, prints; a user's mistake is one line and exit 2."""

import errno
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ownlm import __version__
from ownlm.cli.commands import COMMANDS, PURPOSE, Command, overview
from ownlm.errors import OwnlmError

if TYPE_CHECKING:
    from cyclopts import App

_LONGEST_MESSAGE = 1000
_MEMORY_FULL = "the memory is full; take a smaller model, fewer rows, or a machine with more"
_TORCH_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "CUDA out of memory")
# What writing to an open stream may meet; files of ours are written where such an error names them.
_OUTPUT_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 2 the user's mistake, 1 ours, 130 stopped by Ctrl-C."""
    # A stream that the caller has closed is None: what is written to it goes nowhere, as print() has it.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A console that has no such letter gets its number, never a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.unraisablehook = _unraisable
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """The exit status of `ownlm ARGUMENTS`."""
    # Bytes of another encoding arrive as lone surrogates, which no file of ours could hold.
    if garbled := [argument for argument in arguments if not _is_text(argument)]:
        return _complain(f"{garbled[0]!a} is not UTF-8 text; type it anew, or rename the file that it names")
    try:
        status = _show(page) if (page := overview(arguments)) else _run(arguments)
        sys.stdout.flush()
        return status
    except OwnlmError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        return _complain("stopped; what was finished is kept, and the same command goes on", status=130)
    except BrokenPipeError:
        _forget(sys.stdout)
        return 141
    except OSError as error:
        if error.filename is None and error.errno in _OUTPUT_FAILS:
            _forget(sys.stdout)
            return _complain(f"cannot write the output: {error.strerror or error}; send it to another place")
        if error.filename is None:
            return _fault(error)
        return _complain(f"{error.filename}: {error.strerror}; check the name, and who may read and write it")
    except MemoryError:
        return _complain(_MEMORY_FULL)
    except Exception as error:
        # Torch has no kind of its own for the processor's memory.
        return _complain(_MEMORY_FULL) if any(words in str(error) for words in _TORCH_MEMORY) else _fault(error)


def _unraisable(what: "sys.UnraisableHookArgs") -> None:
    """Ctrl-C in a place that Python cannot leave by an error, as where an import ends, comes again a moment later."""
    if not issubclass(what.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(what)
    elif hasattr(signal, "pthread_kill"):
        again = threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        again.daemon = True
        again.start()


def _show(page: str) -> int:
    sys.stdout.write(page)
    return 0


def _run(arguments: Sequence[str]) -> int:
    from cyclopts import CycloptsError

    try:
        result = _app("ownlm", PURPOSE, COMMANDS)(
            _stdin_named(arguments), exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        return _complain(f"{' '.join(str(error).split())} See ownlm {_command(arguments)}--help.")
    return result if isinstance(result, int) else 0


def _stdin_named(arguments: Sequence[str]) -> list[str]:
    """A lone "-" in place of a prompt, as `generate MODEL -` and `chat MODEL -p -`: cyclopts takes it for an option."""
    named: list[str] = []
    for argument in arguments:
        if argument == "-" and arguments[0] in ("chat", "generate") and "--" not in named:
            if named[-1] in ("-p", "--prompt"):
                named.pop()
            argument = "--prompt=-"
        named.append(argument)
    return named


def _app(name: str, purpose: str | None, commands: Mapping[str, Command]) -> "App":
    """Commands are named, not imported: a module is loaded when its command runs, and torch inside it."""
    from cyclopts import App, Parameter

    options = Parameter(negative_iterable="")  # no --empty-watch
    app = App(name=name, help=purpose, version=__version__, help_format="plaintext", default_parameter=options)
    app.suppress_keyboard_interrupt = False  # run() says what becomes of the work
    for name, command in commands.items():
        if command.below:
            # What a command does is said by its docstring.
            group = _app(name, None if command.function else command.help, command.below)
            if command.function:
                module, _, function = command.function.partition(":")
                group.default(getattr(import_module(module), function))
            app.command(group)
        else:
            app.command(command.function, name=name)  # its docstring is its help
    return app


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _fault(error: Exception) -> int:
    if os.environ.get("OWNLM_DEBUG"):
        traceback.print_exc()
    what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return _complain(f"a fault of ours: {what}. Please report it; OWNLM_DEBUG=1 shows where it is.", status=1)


def _complain(message: str, status: int = 2) -> int:
    """One line, whatever names it quotes; wrapped at words where somebody reads it at a terminal."""
    from ownlm.cli.screen_text import safe_line
    from ownlm.cli.terminal import terminal_columns
    from ownlm.cli.wrap import wrap_text

    if len(message) > _LONGEST_MESSAGE:
        # It quotes something that nobody would read; what to do stands at its end.
        message = f"{message[:_LONGEST_MESSAGE]} ... {message[-200:]}"
    try:
        sys.stdout.flush()
    except OSError:
        _forget(sys.stdout)
    try:
        sys.stderr.write(wrap_text(safe_line(f"ownlm: {message}"), terminal_columns(sys.stderr)) + "\n")
    except OSError:
        _forget(sys.stderr)  # nobody is told, but the exit status says it
    return status


def _forget(stream: TextIO) -> None:
    """What could not be written is let go, or Python would try again at exit, and complain."""
    from ownlm.cli.terminal import forget_output

    forget_output(stream)


def _command(arguments: Sequence[str]) -> str:
    known = [word for word in arguments[:1] if word in COMMANDS]
    return f"{known[0]} " if known else ""
