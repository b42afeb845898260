"""What a model wrote into what it said: thoughts, words and calls apart, piece by piece, for every dialect."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ownlm.engine import Piece
from ownlm.opened import ModelFiles
from ownlm.server.guard.refusal import CONTENT_FILTER
from ownlm.server.reasoning import ReasoningSplit, opens_thinking, thinks
from ownlm.server.tool_calls import Said, ToolCallReader
from ownlm.tokenizer import Tokenizer

# JSON has no infinity.
LEAST = -9999.0


@dataclass(frozen=True, kw_only=True)
class Delta(Said):
    """What came: a thought, or text, or of call `index` its name or a part of its arguments. `refusal`: the text is
    none of the model's, but a policy's in its stead.
    """

    reasoning: str = ""
    refusal: bool = False


class SaidReader:
    """One choice's. `push` gives what may be shown now; the whole gathers in content, reasoning and tool_calls."""

    def __init__(self, model: ModelFiles, prompt: list[int], *, tools: bool = False, forced: bool = False) -> None:
        self.content = self.reasoning = ""
        self.reasoning_tokens = 0
        self.tool_calls: list[dict[str, Any]] = []
        self._split = ReasoningSplit(inside=opens_thinking(model, prompt)) if thinks(model) and not forced else None
        self._calls = ToolCallReader(bare=forced) if tools else None

    @property
    def calls(self) -> int:
        return len(self.tool_calls)

    def take(self, pieces: Sequence[Piece]) -> None:
        """As `push`, for who wants the whole alone."""
        for _ in self.push(pieces):
            pass

    def push(self, pieces: Sequence[Piece]) -> Iterator[Delta]:
        text = "".join(piece.text for piece in pieces)
        ended = pieces[-1].finish_reason is not None
        if pieces[-1].finish_reason == CONTENT_FILTER:
            yield from self._refused(text)
            return
        thought = len(self.reasoning)
        for reasoning, said in self._parts(text, ended):
            if reasoning:
                self.reasoning += reasoning
                yield Delta(reasoning=reasoning)
            if said or ended:
                yield from self._words(said)
        if ended and self._calls is not None:
            yield from self._told(self._calls.finish())
        if len(self.reasoning) > thought:
            self.reasoning_tokens += len(pieces)

    def _refused(self, text: str) -> Iterator[Delta]:
        """No tag is looked for in a refusal; what was held for the other half of one comes before it."""
        for reasoning, said in () if self._split is None else self._split.finish():
            self.reasoning += reasoning
            if reasoning:
                yield Delta(reasoning=reasoning)
            yield from self._words(said)
        if self._calls is not None:
            yield from self._told(self._calls.finish())
        self.content += text
        yield Delta(text=text, refusal=True)

    def _parts(self, text: str, ended: bool) -> Iterator[tuple[str, str]]:
        if self._split is None:
            yield "", text
            return
        yield from self._split.push(text)
        if ended:
            yield from self._split.finish()

    def _words(self, text: str) -> Iterator[Delta]:
        if self._calls is None:
            self.content += text
            if text:
                yield Delta(text=text)
            return
        yield from self._told(self._calls.push(text))

    def _told(self, said: Iterator[Said]) -> Iterator[Delta]:
        for one in said:
            self.content += one.text
            if one.name is not None:
                function = {"name": one.name, "arguments": ""}
                self.tool_calls.append({"id": one.id, "type": "function", "function": function})
            elif one.index is not None:
                self.tool_calls[one.index]["function"]["arguments"] += one.arguments
            yield Delta(**vars(one))


def logprob_entry(piece: Piece, tokenizer: Tokenizer) -> dict[str, Any]:
    """OpenAI's entry for one token of a chat's answer; `bytes`, since a token may be half a character."""
    return {
        **_token(piece.token_id, piece.logprob, tokenizer),
        "top_logprobs": [_token(id, logprob, tokenizer) for id, logprob in piece.top],
    }


def _token(id: int, logprob: float, tokenizer: Tokenizer) -> dict[str, Any]:
    spelled = tokenizer.token_bytes(id)
    return {"token": spelled.decode("utf-8", "replace"), "logprob": max(logprob, LEAST), "bytes": list(spelled)}
