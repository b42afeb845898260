"""One answer, from the first token to the line of figures below it.

In:  a session, a question, a terminal.
Out: the answer on stdout as it comes; on stderr its figures, what Python gives where the answer says
     otherwise, and what was left out. The session keeps question and answer, a stopped one too.

Ctrl-C stops the answer; a second one, before the model has stopped, leaves (keyboard.Leave). One that comes when
the answer has just ended by itself changes nothing: it was meant for the answer.
"""

import json
from collections.abc import Callable
from typing import Protocol

from ownlm.cli.chat_session import ChatStream, Piece, Session, Thought
from ownlm.cli.keyboard import on_interrupt
from ownlm.cli.markdown_stream import MarkdownStream
from ownlm.cli.screen_text import RED_BOLD_UNDERLINED, YELLOW_UNDERLINED, safe_text
from ownlm.cli.terminal import Terminal, is_tty, terminal_columns
from ownlm.cli.wrap import WordWrap

LIKELY, UNLIKELY = 0.5, 0.1
PROBABILITY_LEGEND = (
    f"Tokens that the model held improbable: yellow and underlined below {LIKELY:.0%}, "
    f"red, bold and underlined below {UNLIKELY:.0%}."
)


class Writer(Protocol):
    def push(self, piece: Piece) -> str: ...
    def finish(self) -> str: ...


class PlainWriter:
    """For files and pipes: the text as it comes, ended by a newline."""

    def __init__(self) -> None:
        self._last = ""

    def push(self, piece: Piece) -> str:
        text = safe_text(piece.text)
        self._last = text[-1:] or self._last
        return text

    def finish(self) -> str:
        return "" if self._last == "\n" else "\n"


class StyledWriter:
    """For a terminal: wrapped at words, Markdown styled."""

    def __init__(self, columns: Callable[[], int | None], *, color: bool) -> None:
        self._markdown = MarkdownStream(columns, color=color)

    def push(self, piece: Piece) -> str:
        return self._markdown.push(safe_text(piece.text))

    def finish(self) -> str:
        return self._markdown.finish()


class ProbabilityWriter:
    """Each token marked by how probable it was: by colour and line, or as word{.62}."""

    def __init__(self, columns: Callable[[], int | None], *, color: bool) -> None:
        self._wrap = WordWrap(columns)
        self._color = color

    def push(self, piece: Piece) -> str:
        text = safe_text(piece.text)
        probability = piece.probability
        if probability is None or not text.strip():
            return self._wrap.push(text)
        if self._color:
            style = YELLOW_UNDERLINED if probability < LIKELY else ""
            return self._wrap.push(text, RED_BOLD_UNDERLINED if probability < UNLIKELY else style)
        core = text.rstrip()
        figure = "1" if probability > 0.995 else f"{probability:.2f}"[1:]
        return self._wrap.push(f"{core}{{{figure}}}{text[len(core) :]}")

    def finish(self) -> str:
        return self._wrap.finish()


class SilentWriter:
    """For --json, which writes once the answer is whole."""

    def push(self, piece: Piece) -> str:
        return ""

    def finish(self) -> str:
        return ""


class Thoughts:
    """What the model thinks, before its answer: on stderr, where that is a terminal."""

    def __init__(self, terminal: Terminal, *, shown: bool) -> None:
        self.text = ""
        self._terminal = terminal
        self._wrap = WordWrap(lambda: terminal_columns(terminal.stderr))
        self._shown, self._open = shown and is_tty(terminal.stderr), False

    def push(self, thought: str) -> None:
        if self._shown:
            if not self._open:
                self._terminal.note("(it thinks:)")
            self._open = True
            self._terminal.aside(self._wrap.push(safe_text(thought)))
        self.text += thought

    def close(self) -> None:
        """Thoughts after the answer's first words would stand in the middle of its lines: they are not shown."""
        if self._open:
            self._terminal.aside(self._wrap.finish() + "\n")
        self._shown = self._open = False


def show_answer(session: Session, question: str, terminal: Terminal) -> bool:
    """Ask, and write the answer while it comes; whether it was whole, not stopped by Ctrl-C."""
    stream: ChatStream | None = None
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        if stream is not None:
            stream.cancel()

    with on_interrupt(stop):
        writer = _writer(session, terminal)
        thoughts = Thoughts(terminal, shown=not session.options.json)
        pieces: list[Piece] = []
        try:
            stream = session.ask(question)
            if stopped:  # while the model was reading the question
                stream.cancel()
            for piece in stream:
                if stopped:
                    break
                if isinstance(piece, Thought):
                    thoughts.push(piece.text)
                    continue
                thoughts.close()
                pieces.append(piece)
                terminal.answer(writer.push(piece))
        except BaseException as error:
            if stream is not None:
                stream.cancel()
            if not isinstance(error, BrokenPipeError):
                thoughts.close()
                terminal.answer(writer.finish() if pieces else "")
            raise
        thoughts.close()
        whole = not stopped
        answer = "".join(piece.text for piece in pieces)
        terminal.answer(writer.finish() if pieces or whole else "")
        if answer or whole:
            session.keep(question, answer)
        check = session.options.check_answer
        corrected = check(question, answer) if check and whole else None
        if session.options.json:
            terminal.answer(_as_json(session, question, answer, stream, whole, corrected, pieces, thoughts.text))
        else:
            _note_figures(session, terminal, stream, answer, whole, corrected)
    return whole


def _writer(session: Session, terminal: Terminal) -> Writer:
    if session.options.json:
        return SilentWriter()
    if session.show_probs:
        return ProbabilityWriter(terminal.columns, color=terminal.color_out)
    if terminal.columns() is None and not terminal.color_out:
        return PlainWriter()
    return StyledWriter(terminal.columns, color=terminal.color_out)


def _note_figures(
    session: Session,
    terminal: Terminal,
    stream: ChatStream,
    answer: str,
    whole: bool,
    corrected: str | None,
) -> None:
    if corrected is not None:
        terminal.note(corrected, style="")
    reason = _reason(session, stream, whole)
    count = "1 token" if stream.tokens == 1 else f"{stream.tokens} tokens"
    parts = [count, f"{stream.tokens_per_second:.1f} tokens/s", reason]
    if not answer.strip():
        parts.append("the question is taken back" if not whole and not answer else "the answer is empty")
    if stream.context_dropped:
        parts.append(f"the context is full: the oldest {stream.context_dropped} messages were not read")
    terminal.note("(" + ", ".join(parts) + ")")


def _reason(session: Session, stream: ChatStream, whole: bool) -> str:
    """Why the answer ended."""
    if not whole or stream.finish_reason == "cancelled":
        return "stopped by Ctrl-C"
    if stream.finish_reason == "length":
        if session.max_tokens is None:
            return "cut: the server allows no more, or the context is full"
        full = stream.tokens < session.max_tokens
        return "cut: the context is full (/clear)" if full else f"cut at {session.max_tokens} tokens (/max)"
    return "ended by itself" if stream.finish_reason == "stop" else f"ended: {stream.finish_reason}"


def _as_json(
    session: Session,
    question: str,
    answer: str,
    stream: ChatStream,
    whole: bool,
    corrected: str | None,
    pieces: list[Piece],
    thoughts: str,
) -> str:
    record: dict[str, object] = {
        "event": "answer",
        "model": session.model.name,
        "question": question,
        "answer": answer,
        "finish_reason": stream.finish_reason if whole else "cancelled",
        "tokens": stream.tokens,
        "tokens_per_second": round(stream.tokens_per_second, 2),
        "context_dropped": stream.context_dropped,
    }
    if thoughts:
        record["reasoning_content"] = thoughts
    if corrected is not None:
        record["correction"] = corrected
    if session.show_probs:
        record["pieces"] = [{"text": piece.text, "probability": piece.probability} for piece in pieces]
    # ASCII only, so that no control character of the answer can reach a terminal.
    return json.dumps(record) + "\n"
