"""What a model said as Anthropic's content blocks: whole, and as the events of a stream.

thought ─▶ thinking block      content_block_start, content_block_delta ..., content_block_stop
words   ─▶ text block          one block is open at a time, and they are counted from 0
a call  ─▶ tool_use block
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic_core import from_json

from ownlm.server.said import Delta

Event = dict[str, Any]


class BlockWriter:
    """`push` what was said, then `finish`; the blocks gather in `content`. `hides_thoughts`: display "omitted"."""

    def __init__(self, *, hides_thoughts: bool = False) -> None:
        self.content: list[dict[str, Any]] = []
        self._hides = hides_thoughts
        self._open = False
        self._raw = ""  # of the open block: its whole thought, or a call's arguments
        self._sent = 0  # characters of it

    def push(self, deltas: Iterable[Delta]) -> Iterator[Event]:
        for one in deltas:
            if one.reasoning:
                yield from self._into({"type": "thinking", "thinking": "", "signature": ""})
                self._raw += one.reasoning
                if not self._hides:
                    self._block["thinking"] += one.reasoning
                    yield self._delta("thinking_delta", thinking=one.reasoning)
            elif one.text:
                yield from self._into({"type": "text", "text": ""})
                self._block["text"] += one.text
                yield self._delta("text_delta", text=one.text)
            elif one.name is not None:
                yield from self.finish()
                id = f"toolu_{(one.id or '').removeprefix('call_')}"
                yield from self._into({"type": "tool_use", "id": id, "name": one.name, "input": {}})
            elif one.arguments:
                self._raw += one.arguments
                # What is no object yet, such as an object written as a text, waits for its end.
                if self._raw.startswith("{"):
                    yield self._delta("input_json_delta", partial_json=self._raw[self._sent :])
                    self._sent = len(self._raw)

    def finish(self) -> Iterator[Event]:
        """Close the open block, if there is one."""
        if not self._open:
            return
        block = self._block
        if block["type"] == "thinking":
            # Clients give it back with the thought; it says nothing, for nothing here depends on it.
            block["signature"] = hashlib.sha256(self._raw.encode()).hexdigest()
            yield self._delta("signature_delta", signature=block["signature"])
        if block["type"] == "tool_use":
            block["input"] = _input(self._raw)
            if self._raw and not self._sent:
                yield self._delta("input_json_delta", partial_json=json.dumps(block["input"], ensure_ascii=False))
        self._open, self._raw, self._sent = False, "", 0
        yield {"type": "content_block_stop", "index": len(self.content) - 1}

    @property
    def _block(self) -> dict[str, Any]:
        return self.content[-1]

    def _into(self, block: dict[str, Any]) -> Iterator[Event]:
        """Go on in a block of this kind; a call is always a new one."""
        if self._open and self._block["type"] == block["type"]:
            return
        yield from self.finish()
        self._open = True
        self.content.append(block)
        yield {"type": "content_block_start", "index": len(self.content) - 1, "content_block": dict(block)}

    def _delta(self, kind: str, **what: str) -> Event:
        return {"type": "content_block_delta", "index": len(self.content) - 1, "delta": {"type": kind, **what}}


def _input(raw: str) -> dict[str, Any]:
    """A call's arguments as the object that they must be; of one that was cut off, what there is of it."""
    if not raw:
        return {}
    try:
        found = from_json(raw, allow_inf_nan=False, allow_partial=True)
        if isinstance(found, str):
            found = from_json(found, allow_inf_nan=False, allow_partial=True)
    except ValueError:
        found = None
    # Anthropic's own word for what a model wrote that is none.
    return found if isinstance(found, dict) else {"INVALID_JSON": raw}
