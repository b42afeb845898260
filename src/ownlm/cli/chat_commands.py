"""The chat's commands: a line that begins with "/".

In:  the line, the session, the terminal.
Out: `Next`: a question to ask at once, a text to put into the input line, or the end. What a command has to
     say goes to stderr; only the --json record of /where goes to stdout.

A command is one function here and one row of COMMANDS: its name, its argument, what it does.
"""

import difflib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ownlm.cli.chat_answer import PROBABILITY_LEGEND
from ownlm.cli.chat_session import Session
from ownlm.cli.terminal import Terminal
from ownlm.errors import OwnlmError


@dataclass(frozen=True, kw_only=True)
class Next:
    ask: str | None = None
    prefill: str = ""
    quit: bool = False


Run = Callable[[Session, Terminal, str], Next | None]


@dataclass(frozen=True)
class Command:
    argument: str
    help: str
    run: Run


def run_command(line: str, session: Session, terminal: Terminal) -> Next:
    """Do what the line says; OwnlmError if it says nothing that is known."""
    name, _, argument = line.strip().removeprefix("/").partition(" ")
    name = ALIASES.get(name, name)
    command = COMMANDS.get(name)
    if command is None:
        nearest = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean /{nearest[0]}?" if nearest else "/help lists the commands."
        raise OwnlmError(f"there is no command /{name}; {hint} (A question that begins with / is written //.)")
    if name in session.options.unavailable:
        raise OwnlmError(session.options.unavailable[name])
    return command.run(session, terminal, argument.strip()) or Next()


def available(session: Session) -> list[str]:
    return [name for name in COMMANDS if name not in session.options.unavailable]


def _help(session: Session, terminal: Terminal, argument: str) -> None:
    for name in available(session):
        command = COMMANDS[name]
        terminal.note(f"{('/' + name + ' ' + command.argument).ljust(16)}{command.help}", style="")
    terminal.note("Alt+Enter, or \\ at the line's end: a new line. Up: earlier questions; Ctrl-R: search them.")
    terminal.note("Ctrl-C: stop the answer; twice at an empty prompt, leave. Ctrl-D: leave.")


def _where(session: Session, terminal: Terminal, argument: str) -> None:
    if session.options.where is None:
        raise OwnlmError("the training text is not at hand; open the chat of a run whose corpus folder is kept")
    matches = session.options.where(session.last_answer)
    if session.options.json:
        fields = ("text", "source", "path", "line", "place")
        found = [{name: getattr(match, name) for name in fields} for match in matches]
        terminal.answer(json.dumps({"event": "where", "matches": found}) + "\n")
        return
    if not matches:
        terminal.note("No longer stretch of the last answer stands verbatim in the training text.", style="")
        return
    terminal.note("Longest stretches of the last answer that stand verbatim in the training text:", style="")
    for match in matches:
        terminal.note(f'  "{" ".join(match.text.split())}"', style="")
        # A compiled module has no source file, and so no line.
        line = f"line {match.line}" if match.line else ""
        place = f", {match.place or line}" if match.place or line else ""
        terminal.note(f"    {match.source}: {match.path}{place}")
    terminal.note("A match is not a cause: the model may have the words from elsewhere.")


def _system(session: Session, terminal: Terminal, argument: str) -> None:
    if argument:
        session.system = None if argument == "off" else argument
    shown = f"System message: {session.system}" if session.system else "No system message."
    terminal.note(shown + (" (/system off removes it)" if session.system else ""))


def _temp(session: Session, terminal: Terminal, argument: str) -> None:
    if argument:
        session.temperature = _number(argument, float, 0, 5, "/temp 0.7")
    if session.temperature is None:
        terminal.note("The temperature is the server's own; /temp 0.7 sets one.")
        return
    meaning = "always the likeliest token" if session.temperature == 0 else "higher is more surprising"
    terminal.note(f"Temperature {session.temperature:g} ({meaning}).")


def _max(session: Session, terminal: Terminal, argument: str) -> None:
    if argument:
        session.max_tokens = int(_number(argument, int, 1, 1_000_000, "/max 256"))
    if session.max_tokens is None:
        terminal.note("An answer is as long as the server lets it be; /max 256 cuts it.")
    else:
        terminal.note(f"An answer is cut after {session.max_tokens} tokens.")


def _number(text: str, kind: Callable[[str], float], low: float, high: float, example: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise OwnlmError(f"{text!r} is no number from {low:g} to {high:g}; write for example {example}")
    return value


def _save(session: Session, terminal: Terminal, argument: str) -> None:
    path = _path(argument, "/save talk.jsonl")
    session.save(path)
    terminal.note(f"Saved to {path}: one line that /load and `ownlm finetune` read.")


def _load(session: Session, terminal: Terminal, argument: str) -> None:
    session.load(_path(argument, "/load talk.jsonl"))
    terminal.note(f"Going on with {len(session.turns)} messages.")
    if session.turns:
        terminal.note(f"The last question was: {session.turns[-2]['content']}")


def _export(session: Session, terminal: Terminal, argument: str) -> None:
    path = _path(argument, "/export talk.md")
    session.export(path)
    terminal.note(f"Written to {path} as Markdown.")


def _path(argument: str, example: str) -> Path:
    if not argument:
        raise OwnlmError(f"no file is named; write for example {example}")
    return Path(argument).expanduser()


def _edit(session: Session, terminal: Terminal, argument: str) -> Next:
    if not argument and not terminal.interactive:
        raise OwnlmError("nobody is there to edit; write /edit and the new question in one line")
    question = session.undo()
    return Next(ask=argument) if argument else Next(prefill=question)


def _undo(session: Session, terminal: Terminal, argument: str) -> None:
    terminal.note(f"Taken back: {session.undo()}")


def _regen(session: Session, terminal: Terminal, argument: str) -> Next:
    if session.turns and session.temperature == 0:
        terminal.note("At temperature 0 the answer stays the same; /temp 0.7 lets it vary.")
    session.attempt += 1
    return Next(ask=session.undo())


def _probs(session: Session, terminal: Terminal, argument: str) -> None:
    if argument not in ("", "on", "off"):
        raise OwnlmError(f"/probs {argument} is not known; write /probs on or /probs off")
    session.show_probs = not session.show_probs if not argument else argument == "on"
    if not session.show_probs:
        terminal.note("Probabilities are not shown.")
    else:
        terminal.note(PROBABILITY_LEGEND if terminal.color_out else "Behind each token: its probability.")


def _clear(session: Session, terminal: Terminal, argument: str) -> None:
    session.clear()
    terminal.note("A new conversation; the model has forgotten the old one.")


def _model(session: Session, terminal: Terminal, argument: str) -> None:
    if argument:
        if session.options.load_model is None:
            raise OwnlmError(f"no other model can be opened from here; leave and run `ownlm chat {argument}`")
        session.model = session.options.load_model(argument)
    terminal.note(f"Model: {session.model.name}")


def _quit(session: Session, terminal: Terminal, argument: str) -> Next:
    return Next(quit=True)


COMMANDS = {
    "help": Command("", "these lines", _help),
    "where": Command("", "where the last answer's words stand in the training text", _where),
    "regen": Command("", "answer the last question again", _regen),
    "edit": Command("[TEXT]", "ask the last question otherwise", _edit),
    "undo": Command("", "take back the last question and its answer", _undo),
    "clear": Command("", "begin a new conversation", _clear),
    "system": Command("[TEXT]", "show or set the system message (off removes it)", _system),
    "temp": Command("[X]", "show or set the temperature", _temp),
    "max": Command("[N]", "show or set the most tokens of an answer", _max),
    "probs": Command("[on|off]", "show how probable each token was", _probs),
    "model": Command("[MODEL]", "show the model, or go on with another", _model),
    "save": Command("FILE", "save the conversation (JSON, for /load and for tuning)", _save),
    "load": Command("FILE", "go on with a saved conversation", _load),
    "export": Command("FILE", "write the conversation as Markdown, for people", _export),
    "quit": Command("", "leave", _quit),
}
ALIASES = {"exit": "quit", "bye": "quit", "q": "quit", "?": "help", "temperature": "temp"}
