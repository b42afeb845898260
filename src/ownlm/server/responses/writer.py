"""What a model says into the items and events of /v1/responses.

    created, in_progress,
    then each item:  output_item.added ─▶ its own ─▶ output_item.done
        message        content_part.added, output_text.delta*, output_text.done, content_part.done
                       (of a refusal: refusal.delta*, refusal.done)
        function_call  function_call_arguments.delta*, function_call_arguments.done
        reasoning      reasoning_text.delta*, reasoning_text.done
    then one of completed, incomplete, failed

Every event has a sequence_number, from 0. One that was cancelled ends as incomplete: there is no event of its own.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from ownlm.engine import Piece
from ownlm.server import sse
from ownlm.server.answering import Answering
from ownlm.server.errors import ApiError
from ownlm.server.guard.refusal import CONTENT_FILTER
from ownlm.server.responses.items import item_id
from ownlm.server.said import Delta, SaidReader, logprob_entry
from ownlm.tokenizer import Tokenizer

_INCOMPLETE: dict[str | None, str] = {"length": "max_output_tokens", CONTENT_FILTER: "content_filter"}
_CODES = {400: "invalid_prompt", 429: "rate_limit_exceeded"}


class Writer:
    """`response` is what it writes into: whole items alone. `tokenizer`: given where logprobs are asked for."""

    def __init__(self, response: dict[str, Any], reader: SaidReader, *, tokenizer: Tokenizer | None = None) -> None:
        self.response, self.reader = response, reader
        self._tokenizer = tokenizer
        self._number = 0
        self._item: dict[str, Any] | None = None
        self._parts: list[str] = []  # the open item's text
        self._refuses = False  # is that a refusal?
        self._blank = ""  # blanks that may come before a call, and are nobody's words then
        self._waiting: list[dict[str, Any]] = []  # logprobs of tokens whose text has not come out yet
        self._logprobs: list[dict[str, Any]] = []

    @property
    def ended(self) -> bool:
        return self.response["status"] not in ("queued", "in_progress")

    def created(self) -> bytes:
        return self._event("response.created", response=self.response)

    def in_progress(self) -> bytes:
        self.response["status"] = "in_progress"
        return self._event("response.in_progress", response=self.response)

    def push(self, pieces: Sequence[Piece]) -> Iterator[bytes]:
        # Where each token's chances are shown, each goes alone: they belong to its own text.
        for bunch in [pieces] if self._tokenizer is None else [[piece] for piece in pieces]:
            if self._tokenizer is not None:
                self._waiting += [logprob_entry(piece, self._tokenizer) for piece in bunch]
            for delta in self.reader.push(bunch):
                yield from self._said(delta)

    def finish(self, reason: str | None) -> Iterator[bytes]:
        """The last item's end. `reason`: as the engine gives it."""
        status = "incomplete" if reason in _INCOMPLETE else "completed"
        if self._item is None and not self.response["output"]:
            yield from self._open("message", status="in_progress", role="assistant", content=[])
            if self._blank:
                yield from self._text(self._blank)
        if self._item is not None:
            yield from self._close(status)
        self._end(status)
        if status == "incomplete":
            self.response["incomplete_details"] = {"reason": _INCOMPLETE[reason]}

    def fail(self, error: ApiError) -> None:
        if not self.ended:
            self._break_off()
            self._end("failed")
            self.response["error"] = {"code": _CODES.get(error.status, "server_error"), "message": error.message}

    def cancel(self) -> None:
        if not self.ended:
            self._break_off()
            self._end("cancelled")

    def last(self) -> bytes:
        """The event that ends the stream."""
        status = self.response["status"]
        return self._event(f"response.{'incomplete' if status == 'cancelled' else status}", response=self.response)

    def count(self, answers: Answering) -> None:
        drawn = answers.completion_tokens
        self.response["usage"] = {
            "input_tokens": answers.prompt_tokens,
            "input_tokens_details": {"cached_tokens": answers.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": drawn,
            "output_tokens_details": {"reasoning_tokens": self.reader.reasoning_tokens},
            "total_tokens": answers.prompt_tokens + drawn,
        }

    def _said(self, delta: Delta) -> Iterator[bytes]:
        kind = self._item["type"] if self._item is not None else None
        if delta.reasoning:
            if kind != "reasoning":
                yield from self._open("reasoning", status="in_progress", summary=[], content=[])
            self._waiting.clear()
            self._parts.append(delta.reasoning)
            yield self._of_item("response.reasoning_text.delta", content_index=0, delta=delta.reasoning)
        elif delta.name is not None:
            call = {"call_id": delta.id, "name": delta.name, "arguments": ""}
            yield from self._open("function_call", status="in_progress", **call)
            self._blank = ""
            self._waiting.clear()
        elif delta.index is not None:
            self._waiting.clear()
            yield from self._arguments(delta.arguments)
        elif delta.refusal:
            yield from self._refusal(delta.text)
        elif delta.text:
            text, self._blank = self._blank + delta.text, ""
            if kind == "message":
                yield from self._text(text)
            elif text.isspace():
                self._blank = text
            else:
                yield from self._open("message", status="in_progress", role="assistant", content=[])
                yield from self._text(text)

    def _text(self, text: str) -> Iterator[bytes]:
        said, self._waiting = self._waiting, []
        self._logprobs += said
        self._parts.append(text)
        yield self._of_item("response.output_text.delta", content_index=0, delta=text, logprobs=said)

    def _refusal(self, text: str) -> Iterator[bytes]:
        """An item of its own, behind what was said before it."""
        if self._item is not None:
            yield from self._close("incomplete")
        self._refuses, self._blank = True, ""
        self._waiting.clear()
        yield from self._open("message", status="in_progress", role="assistant", content=[])
        self._parts.append(text)
        yield self._of_item("response.refusal.delta", content_index=0, delta=text)

    def _arguments(self, arguments: str) -> Iterator[bytes]:
        self._parts.append(arguments)
        yield self._of_item("response.function_call_arguments.delta", delta=arguments)

    def _open(self, kind: str, **fields: Any) -> Iterator[bytes]:
        if self._item is not None:
            yield from self._close("completed")
        place = len(self.response["output"])
        self._item = {"id": item_id(kind, self.response["id"], place), "type": kind, **fields}
        yield self._event("response.output_item.added", output_index=place, item=self._item)
        if kind == "message":
            yield self._of_item("response.content_part.added", content_index=0, part=self._content())

    def _close(self, status: str) -> Iterator[bytes]:
        item = self._item
        assert item is not None
        if item["type"] == "function_call":
            if not self._parts and status == "completed":
                # A call without arguments; what is to be read as JSON must be some.
                yield from self._arguments("{}")
            done: dict[str, Any] = {"name": item["name"], "arguments": "".join(self._parts)}
            yield self._of_item("response.function_call_arguments.done", **done)
        else:
            text = "".join(self._parts)
            if item["type"] == "message" and self._refuses:
                yield self._of_item("response.refusal.done", content_index=0, refusal=text)
                yield self._of_item("response.content_part.done", content_index=0, part=self._content())
            elif item["type"] == "message":
                yield self._of_item(
                    "response.output_text.done", content_index=0, text=text, logprobs=list(self._logprobs)
                )
                yield self._of_item("response.content_part.done", content_index=0, part=self._content())
            else:
                yield self._of_item("response.reasoning_text.done", content_index=0, text=text)
        place = len(self.response["output"])
        self._keep(status)
        yield self._event("response.output_item.done", output_index=place, item=item)

    def _keep(self, status: str) -> None:
        """The open item, as it is, among those that are whole."""
        item = self._item
        assert item is not None
        if item["type"] == "function_call":
            item["arguments"] = "".join(self._parts)
        elif item["type"] == "message":
            item["content"] = [self._content()]
        else:
            item["content"] = [{"type": "reasoning_text", "text": "".join(self._parts)}]
        item["status"] = status
        self.response["output"].append(item)
        self._item, self._parts, self._logprobs = None, [], []

    def _content(self) -> dict[str, Any]:
        text = "".join(self._parts)
        if self._refuses:
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(self._logprobs)}

    def _break_off(self) -> None:
        if self._item is not None:
            self._keep("incomplete")

    def _end(self, status: str) -> None:
        self.response["status"] = status
        if status == "completed":
            self.response["completed_at"] = int(time.time())

    def _of_item(self, kind: str, **fields: Any) -> bytes:
        assert self._item is not None
        return self._event(kind, item_id=self._item["id"], output_index=len(self.response["output"]), **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return sse.event(data, kind)
