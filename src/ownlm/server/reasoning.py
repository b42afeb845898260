"""What a model thinks, apart from what it says: the text between <think> and </think>, split as it is written."""

from collections.abc import Iterator

from ownlm.opened import ModelFiles
from ownlm.server.tool_calls import overlap
from ownlm.tokenizer.special import THINKING

OPEN, CLOSE = THINKING


def thinks(model: ModelFiles) -> bool:
    """Does the model's template know thoughts?"""
    jinja = None if model.template is None else model.template.jinja
    return jinja is not None and CLOSE in jinja


def opens_thinking(model: ModelFiles, prompt: list[int]) -> bool:
    """Does the prompt end in an open <think>, as DeepSeek's templates write it?"""
    tail = model.tokenizer.decode(prompt[-8:]) if prompt else ""
    return tail.rstrip().endswith(OPEN)


class ReasoningSplit:
    """`push` text, get (thought, said). An answer that does not begin with <think> is all said."""

    def __init__(self, *, inside: bool = False) -> None:
        self._state = "opened" if inside else "before"
        self._held = ""

    def push(self, text: str) -> Iterator[tuple[str, str]]:
        self._held += text
        if self._state == "before":
            begun = self._held.lstrip()
            if OPEN.startswith(begun[: len(OPEN)]) and len(begun) < len(OPEN):
                return
            if begun.startswith(OPEN):
                self._state, self._held = "opened", begun[len(OPEN) :]
            else:
                self._state = "after"
        if self._state == "opened":
            self._held = self._held.lstrip("\n")
            if not self._held:
                return
            self._state = "inside"
        if self._state == "inside":
            place = self._held.find(CLOSE)
            if place < 0:
                keep = overlap(self._held, CLOSE)
                out, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
                if out:
                    yield out, ""
                return
            out, self._held, self._state = self._held[:place], self._held[place + len(CLOSE) :], "blank"
            if out:
                yield out, ""
        if self._state == "blank":
            self._held = self._held.lstrip("\n")
            if not self._held:
                return
            self._state = "after"
        out, self._held = self._held, ""
        if out:
            yield "", out

    def finish(self) -> Iterator[tuple[str, str]]:
        out, self._held = self._held, ""
        if out:
            yield (out, "") if self._state == "inside" else ("", out)
