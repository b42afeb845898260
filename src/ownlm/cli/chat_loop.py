"""The conversation in the terminal: append-only, and fit for a pipe.

In:  a model that streams answers, `ChatOptions`, three streams.
Out: the exit code. Which way it goes:

    a prompt (-p)         one answer, then the end; "-" reads the prompt from stdin
    stdin is no terminal  each line is one turn of a conversation (or a command)
    both are terminals    a conversation with a prompt

Exit codes: 0 done (Ctrl-C twice at the prompt is a way to leave); 2 a user's mistake or an answer that failed,
where nobody can try again; 130 stopped by Ctrl-C outside a conversation; 141 the reader of our output left.
"""

import contextlib
from collections.abc import Iterator
from typing import TextIO

from ownlm.cli.chat_answer import PROBABILITY_LEGEND, show_answer
from ownlm.cli.chat_commands import Next, available, run_command
from ownlm.cli.chat_input import PROMPT, PromptReader, piped_lines, piped_text
from ownlm.cli.chat_session import ChatModel, ChatOptions, Session
from ownlm.cli.keyboard import Leave, quiet_keyboard, terminal_restored
from ownlm.cli.screen_text import BOLD
from ownlm.cli.terminal import Terminal, forget_output
from ownlm.errors import OwnlmError

DONE, FAILED, INTERRUPTED, READER_GONE = 0, 2, 130, 141


def run_chat(model: ChatModel, *, options: ChatOptions, stdin: TextIO, stdout: TextIO, stderr: TextIO) -> int:
    """Talk with the model until the user, or the input, is done."""
    terminal = Terminal(stdin, stdout, stderr, color=options.color)
    session = Session.start(model, options)
    try:
        if options.prompt is not None:
            return _one_answer(session, terminal, options.prompt)
        if not terminal.interactive:
            return _piped(session, terminal)
        with terminal_restored(terminal):
            return _conversation(session, terminal)
    except KeyboardInterrupt:
        return DONE if options.prompt is None and terminal.interactive else INTERRUPTED
    except OwnlmError as error:
        terminal.note(f"ownlm: {error}", style="")
        return FAILED
    except BrokenPipeError:
        forget_output(stdout)
        return READER_GONE


def _one_answer(session: Session, terminal: Terminal, prompt: str) -> int:
    text = piped_text(terminal.stdin).removesuffix("\n") if prompt == "-" else prompt
    if not text.strip():
        raise OwnlmError('the prompt is empty; write it behind -p, such as -p "What does len do?"')
    return DONE if show_answer(session, text, terminal) else INTERRUPTED


def _piped(session: Session, terminal: Terminal) -> int:
    asked = False
    on_screen = terminal.columns() is not None
    for line in piped_lines(terminal.stdin):
        if on_screen:  # the reader has not typed the question
            terminal.note(("\n" if asked else "") + PROMPT + line, style="")
        asked = True
        upcoming = _understand(line, session, terminal)
        if upcoming.quit:
            break
        if upcoming.ask is not None and not show_answer(session, upcoming.ask, terminal):
            return INTERRUPTED
    if not asked:
        raise OwnlmError('nothing was asked: the input is empty; write a question a line, or use -p "..."')
    return DONE


def _conversation(session: Session, terminal: Terminal) -> int:
    _greet(session, terminal)
    reader = PromptReader(terminal, history=session.options.history, commands=available(session))
    prefill = ""
    while True:
        try:
            line = reader.read(prefill)
        except EOFError:
            return DONE
        prefill = ""
        if not line.strip():
            continue
        try:
            with _mistakes_told(terminal):
                upcoming = _understand(line, session, terminal)
                if upcoming.quit:
                    return DONE
                prefill = upcoming.prefill
                if upcoming.ask is not None:
                    with quiet_keyboard(terminal):
                        show_answer(session, upcoming.ask, terminal)
            terminal.note("", style="")
        except Leave:
            return DONE
        except KeyboardInterrupt:
            # Between an answer and the prompt, or during a command: no reason to lose the conversation.
            reader.ask_again()


def _greet(session: Session, terminal: Terminal) -> None:
    place = f" at {session.options.place}" if session.options.place else ""
    terminal.note(f"You are talking with {session.model.name}{place}.", style=BOLD)
    if session.options.arithmetic != "float32":
        terminal.note(f"It computes in {session.options.arithmetic}.")
    terminal.note("/help lists the commands, Ctrl-C stops an answer, Ctrl-D leaves.")
    if session.options.suggestions:
        terminal.note(session.options.suggestions_are)
        for suggestion in session.options.suggestions:
            terminal.note(f"  {suggestion}")
    if session.show_probs and terminal.color_out:
        terminal.note(PROBABILITY_LEGEND)
    terminal.note("", style="")


def _understand(line: str, session: Session, terminal: Terminal) -> Next:
    """A command, or a question (a question that begins with a slash is written with two)."""
    if line.startswith("/") and not line.startswith("//"):
        return run_command(line, session, terminal)
    session.attempt = 0
    return Next(ask=line[1:] if line.startswith("//") else line)


@contextlib.contextmanager
def _mistakes_told(terminal: Terminal) -> Iterator[None]:
    """In a conversation a mistake ends the turn, not the conversation."""
    try:
        yield
    except OwnlmError as error:
        terminal.note(f"ownlm: {error}", style="")
