"""Where the questions come from: a person at a terminal, or lines in a pipe.

In:  the terminal; for a person also the commands' names, for the Tab key.
Out: `PromptReader.read(prefill)` gives the next message; EOFError (Ctrl-D, or Ctrl-C twice at an empty prompt)
     means the end. `piped_lines` gives one message a line.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ownlm.cli.terminal import Terminal
from ownlm.errors import OwnlmError

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyBindings

PROMPT = "> "


class PromptReader:
    """An input line with history and paste of several lines as one message.

    A new line begins by Alt+Enter, or by Enter behind a backslash.
    """

    def __init__(self, terminal: Terminal, *, history: Path | None, commands: Sequence[str]) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter
        from prompt_toolkit.history import FileHistory, InMemoryHistory
        from prompt_toolkit.input.defaults import create_input
        from prompt_toolkit.output.defaults import create_output
        from prompt_toolkit.shortcuts import CompleteStyle

        assert terminal.interactive
        self._terminal, self._asked_to_leave = terminal, False
        self._session: PromptSession[str] = PromptSession(
            input=create_input(terminal.stdin),
            output=create_output(terminal.screen),
            history=FileHistory(str(history)) if history else InMemoryHistory(),
            multiline=True,
            prompt_continuation=" " * len(PROMPT),
            key_bindings=self._key_bindings(),
            completer=WordCompleter([f"/{name}" for name in commands], sentence=True),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            # Space kept for a menu would scroll the conversation up at every prompt.
            reserve_space_for_menu=0,
            include_default_pygments_style=False,
        )

    def read(self, prefill: str = "") -> str:
        while True:
            try:
                line = self._session.prompt(PROMPT, default=prefill)
            except KeyboardInterrupt:
                if self._asked_to_leave:
                    raise EOFError from None
                self.ask_again()
                prefill = ""
                continue
            self._asked_to_leave = False
            return line

    def ask_again(self) -> None:
        """Take one Ctrl-C for a mistake: an answer may have ended just before it was pressed."""
        self._asked_to_leave = True
        self._terminal.note("Ctrl-C again to leave.")

    def _key_bindings(self) -> "KeyBindings":
        from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

        bindings = KeyBindings()

        @bindings.add("enter")
        def _send(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.document.is_cursor_at_the_end and buffer.text.endswith("\\"):
                # For terminals that keep Alt+Enter for themselves.
                buffer.delete_before_cursor()
                buffer.insert_text("\n")
            else:
                buffer.validate_and_handle()

        @bindings.add("escape", "enter")
        def _new_line(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @bindings.add("c-c")
        def _clear_or_leave(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.reset()
                self._asked_to_leave = False
            else:
                event.app.exit(exception=KeyboardInterrupt())

        return bindings


def piped_lines(stdin: TextIO) -> Iterator[str]:
    """Every line that is not blank."""
    with _not_text_told():
        for line in stdin:
            line.encode()
            if line.strip():
                yield line.rstrip("\r\n")


def piped_text(stdin: TextIO) -> str:
    with _not_text_told():
        text = stdin.read()
        text.encode()
        return text


@contextlib.contextmanager
def _not_text_told() -> Iterator[None]:
    """In some locales bytes that are no text arrive as lone surrogates, which cannot be encoded again."""
    try:
        yield
    except UnicodeError as error:
        encoding = getattr(error, "encoding", "utf-8")
        raise OwnlmError(f"standard input is not {encoding} text; convert it first") from error
