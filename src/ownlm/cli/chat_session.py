"""What a conversation is, apart from the terminal: the model it asks, its settings, its messages.

In:  a `ChatModel` (anything that streams an answer to a list of messages) and `ChatOptions`.
Out: `Session`: questions and answers added, undone, asked again, saved and read back.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ownlm.cli.terminal import ColorChoice
from ownlm.errors import OwnlmError

Message = dict[str, str]
SETTINGS = ("max_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")


class Piece(Protocol):
    """A part of an answer: whole characters, and how probable the model held its token (None: not known)."""

    @property
    def text(self) -> str: ...
    @property
    def token_ids(self) -> list[int]: ...
    @property
    def probability(self) -> float | None: ...


@dataclass(frozen=True)
class Thought:
    """A part of what the model thinks before it answers: shown apart, and no part of the conversation."""

    text: str


class ChatStream(Protocol):
    """One answer on its way; the figures hold once the iteration has ended."""

    def __iter__(self) -> Iterator[Piece | Thought]: ...
    def cancel(self) -> None: ...
    @property
    def finish_reason(self) -> str: ...  # "stop", "length" or "cancelled"; a server may have more
    @property
    def tokens(self) -> int: ...
    @property
    def tokens_per_second(self) -> float: ...
    @property
    def context_dropped(self) -> int: ...  # oldest messages left out because the context is full


class ChatModel(Protocol):
    @property
    def name(self) -> str: ...

    def stream_chat(self, messages: list[Message], **settings: Any) -> ChatStream:
        """`settings`: those of `SETTINGS` that are set."""
        ...


class Match(Protocol):
    """A stretch of the answer that stands verbatim in the training text."""

    @property
    def text(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def place(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """How to talk. `prompt` is one question ("-": all of stdin), then the end; None is a conversation.

    A setting that is None is left to the model, as a server has it.
    """

    prompt: str | None = None
    system: str | None = None
    max_tokens: int | None = 200
    temperature: float | None = 0.3
    top_k: int | None = 0
    top_p: float | None = 1.0
    min_p: float | None = 0.05
    repetition_penalty: float | None = 1.0
    seed: int | None = None
    json: bool = False
    color: ColorChoice = "auto"
    show_probs: bool = False
    arithmetic: str = "float32"  # what the model computes in; told where it is another
    place: str = ""  # of a model that is not here: the address of its server
    unavailable: Mapping[str, str] = field(default_factory=dict)  # command -> why it makes no sense here
    suggestions: Sequence[str] = ()  # questions to begin with, below `suggestions_are`
    suggestions_are: str = "Things to try:"
    history: Path | None = None  # a file of earlier questions; None: remembered for this conversation only
    # (question, answer) -> a line that says what Python gives, where the answer says otherwise
    check_answer: Callable[[str, str], str | None] | None = None
    # answer -> its longest stretches that stand in the training text
    where: Callable[[str], Sequence[Match]] | None = None
    # MODEL as on the command line -> the model, for /model
    load_model: Callable[[str], ChatModel] | None = None


@dataclass(kw_only=True)
class Session:
    """The conversation so far: `turns` alternates question and answer, and ends with an answer."""

    model: ChatModel
    options: ChatOptions
    system: str | None
    temperature: float | None
    max_tokens: int | None
    show_probs: bool
    turns: list[Message] = field(default_factory=list)
    attempt: int = 0  # how often the last question was asked again: a fixed seed must not give the same answer

    @classmethod
    def start(cls, model: ChatModel, options: ChatOptions) -> "Session":
        return cls(
            model=model,
            options=options,
            system=options.system,
            temperature=options.temperature,
            max_tokens=options.max_tokens,
            show_probs=options.show_probs,
        )

    @property
    def messages(self) -> list[Message]:
        first = [{"role": "system", "content": self.system}] if self.system else []
        return first + [dict(turn) for turn in self.turns]

    @property
    def last_answer(self) -> str:
        if not self.turns:
            raise OwnlmError("there is no answer yet; ask something first")
        return self.turns[-1]["content"]

    def ask(self, question: str) -> ChatStream:
        """Begin an answer; the question becomes part of the conversation with `keep`."""
        settings = {name: getattr(self.options, name) for name in SETTINGS}
        settings |= {"max_tokens": self.max_tokens, "temperature": self.temperature}
        if settings["seed"] is not None:
            settings["seed"] += self.attempt
        return self.model.stream_chat(
            [*self.messages, {"role": "user", "content": question}],
            **{name: value for name, value in settings.items() if value is not None},
        )

    def keep(self, question: str, answer: str) -> None:
        self.turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]

    def undo(self) -> str:
        """Take the last question and its answer away; gives the question."""
        if not self.turns:
            raise OwnlmError("there is nothing to take back; the conversation is empty")
        question = self.turns[-2]["content"]
        del self.turns[-2:]
        return question

    def clear(self) -> None:
        self.turns.clear()

    def save(self, path: Path) -> None:
        """One line of JSON in the form that fine-tuning reads: {"messages": [...]}."""
        _write_new(path, json.dumps({"messages": self.messages}, ensure_ascii=False) + "\n")

    def export(self, path: Path) -> None:
        """The conversation as Markdown, for people."""
        parts = [f"# A conversation with {self.model.name}"]
        if self.temperature is not None:
            parts.append(f"temperature {self.temperature:g}")
        if self.system:
            parts.append(f"System: {self.system}")
        for turn in self.turns:
            parts += [f"## {'Question' if turn['role'] == 'user' else 'Answer'}", turn["content"]]
        _write_new(path, "\n\n".join(parts) + "\n")

    def load(self, path: Path) -> None:
        """Go on with a conversation that `save` wrote; the present one is given up."""
        try:
            line = path.read_text(encoding="utf-8").partition("\n")[0]
            messages = json.loads(line)["messages"]
            read = [(message["role"], message["content"]) for message in messages]
        except OSError as error:
            raise OwnlmError(f"cannot read {path}: {error.strerror}; name a file that /save wrote") from error
        except (ValueError, KeyError, TypeError) as error:
            raise OwnlmError(f"{path} holds no conversation; name a file that /save wrote") from error
        system = read.pop(0)[1] if read and read[0][0] == "system" else None
        roles = [role for role, _ in read]
        if roles != ["user", "assistant"] * (len(read) // 2) or not all(isinstance(c, str) for _, c in read):
            raise OwnlmError(f"{path}: questions and answers do not alternate; name a file that /save wrote")
        self.system = system
        self.turns = [{"role": role, "content": content} for role, content in read]


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise OwnlmError(f"{path} exists and is kept as it is; choose another name") from error
    except OSError as error:
        raise OwnlmError(f"cannot write {path}: {error.strerror}; choose another place") from error
