"""`ownlm chat --url`: the same conversation with a model that a server runs.

    messages ──POST /chat/completions──▶ chunks ──▶ Thought | RemotePiece ... ──▶ figures from `usage`

The history stays here and is sent whole with each question. Only settings that the user gave are sent: for the others
the server knows what suits its model.
"""

import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ownlm.cli.chat_session import ChatOptions, Message, Thought
from ownlm.cli.remote_errors import NoSuchRoute
from ownlm.cli.remote_server import RemoteServer, choices
from ownlm.errors import OwnlmError

_SHOWN_NAMES = 20
_HERE_ALONE = {
    "where": "/where needs the training text here: ownlm chat FOLDER",
    "probs": "/probs needs the model here: ownlm chat MODEL --show-probs",
}


def open_remote_chat(
    url: str, name: str | None, key: str | None, options: ChatOptions, sampling: Mapping[str, float]
) -> int:
    """Converse with the model `name` of the server at `url`; without a name with the one that it has."""
    from ownlm.cli.chat_loop import run_chat

    server = RemoteServer.at(url, key)
    if server.exposes_key:
        sys.stderr.write(f"The key goes to {server.url} unencrypted, for all on the way to read; https:// hides it.\n")
    # A single question is a try of its own; a conversation had better fail before its first one.
    if name is None:
        name = _only(server)
    elif options.prompt is None:
        _reach(server)
    unset = dict.fromkeys(("temperature", "top_k", "top_p", "min_p", "repetition_penalty"))
    options = replace(
        options,
        **{**unset, **sampling},  # type: ignore[arg-type]
        place=server.url,
        unavailable=_HERE_ALONE,
        load_model=lambda other: RemoteModel(server, _known(server, other)),
    )
    return run_chat(RemoteModel(server, name), options=options, stdin=sys.stdin, stdout=sys.stdout, stderr=sys.stderr)


def _only(server: RemoteServer) -> str:
    names = server.chat_models()
    if not names:
        raise OwnlmError(f"{server.url} serves no model to chat with; start it with one, or name one with --model")
    if len(names) > 1:
        raise OwnlmError(f"{server.url} serves several models; choose one with --model: {_listed(names)}")
    return names[0]


def _known(server: RemoteServer, name: str) -> str:
    if name not in (names := server.chat_models()):
        raise OwnlmError(f"{server.url} serves no {name}; it has {_listed(names)}")
    return name


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more


def _reach(server: RemoteServer) -> None:
    """OwnlmError if nobody answers or the key is refused; some servers list no models, and chat all the same."""
    with suppress(NoSuchRoute):
        server.chat_models()


@dataclass(frozen=True)
class RemotePiece:
    text: str
    token_ids: list[int] = field(default_factory=list)
    probability: float | None = None


class RemoteModel:
    def __init__(self, server: RemoteServer, name: str) -> None:
        self._server, self.name = server, name

    def stream_chat(self, messages: list[Message], **settings: Any) -> "RemoteStream":
        wanted = {"stream": True, "stream_options": {"include_usage": True}}
        return RemoteStream(self._server, {"model": self.name, "messages": messages, **wanted, **settings})


class RemoteStream:
    """Iterate once; connects when the iteration begins.

    `cancel()` may be called from a signal handler, and closes the connection whatever it waits for. `tokens` is what
    the server counts; where it tells nothing, as when an answer is stopped, the pieces that came.
    """

    context_dropped = 0

    def __init__(self, server: RemoteServer, body: dict[str, Any]) -> None:
        self._server, self._body = server, body
        self._reading: asyncio.Task[None] | None = None
        self._cancelled = False
        self._seconds = 0.0
        self.finish_reason = "stop"
        self.tokens = 0

    def __iter__(self) -> Iterator[RemotePiece | Thought]:
        started = time.perf_counter()
        # The loop runs while we wait for a chunk; its end cancels a reading that still goes on.
        with asyncio.Runner() as runner:
            arrived: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
            self._reading = reading = runner.get_loop().create_task(self._read(arrived))
            while not self._cancelled and (chunk := runner.run(arrived.get())) is not None:
                pieces = list(_pieces(chunk))
                if pieces:
                    self.tokens += 1
                    self._seconds = time.perf_counter() - started
                self.tokens = _counted(chunk) or self.tokens
                for choice in choices(chunk):
                    self.finish_reason = choice.get("finish_reason") or self.finish_reason
                yield from pieces
            if not self._cancelled:
                with suppress(asyncio.CancelledError):  # by a Ctrl-C at the very end
                    runner.run(_result(reading))

    async def _read(self, arrived: "asyncio.Queue[dict[str, Any] | None]") -> None:
        """In one task from the first byte to the last: cancelled, it leaves whatever it waits in, in order."""
        try:
            async with aclosing(self._server.chunks(self._body)) as chunks:
                async for chunk in chunks:
                    arrived.put_nowait(chunk)
        finally:
            arrived.put_nowait(None)

    def cancel(self) -> None:
        self._cancelled, self.finish_reason = True, "cancelled"
        if self._reading is not None and not self._reading.done():
            # A signal comes in the middle of the loop's work: it must be woken, too.
            self._reading.get_loop().call_soon_threadsafe(self._reading.cancel)

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self._seconds if self._seconds else 0.0


async def _result(reading: "asyncio.Task[None]") -> None:
    """What went wrong, if it did, is raised."""
    await reading


def _pieces(chunk: Mapping[str, Any]) -> Iterator[RemotePiece | Thought]:
    for choice in choices(chunk)[:1]:
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return
        # vLLM and OpenRouter call it reasoning.
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thought, str) and thought:
            yield Thought(thought)
        text = delta.get("content") or delta.get("refusal")
        if isinstance(text, str) and text:
            yield RemotePiece(text)


def _counted(chunk: Mapping[str, Any]) -> int | None:
    """The tokens of the answer so far, if the chunk tells."""
    usage = chunk.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return tokens if isinstance(tokens, int) else None
