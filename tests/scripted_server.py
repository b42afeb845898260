"""A server for tests that answers by a script, and so as badly as one likes: cut streams, HTML, silence."""

import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

GONE = "until the client has gone"
Step = bytes | float | str  # bytes are sent, a number waits so many seconds
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def http(status: int, body: Any = b"", **headers: str) -> bytes:
    """A whole answer; a body that is no bytes goes as JSON."""
    kind = "application/json"
    if isinstance(body, bytes):
        kind, raw = "text/html", body
    else:
        raw = json.dumps(body).encode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} So\r\ncontent-type: {kind}\r\ncontent-length: {len(raw)}\r\n{more}\r\n"
    return head.encode() + raw


def models(*names: str, **more: Any) -> bytes:
    return http(200, {"object": "list", "data": [{"id": name, **more} for name in names]})


def event(data: Any) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def delta(**fields: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": fields, "finish_reason": None}]})


def end(reason: str = "stop", tokens: int | None = None) -> bytes:
    usage = b"" if tokens is None else event({"choices": [], "usage": {"completion_tokens": tokens}})
    return event({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}) + usage + b"data: [DONE]\n\n"


def said(*texts: str, tokens: int | None = None) -> list[Step]:
    """A good answer."""
    return [EVENTS, *(delta(content=text) for text in texts), end(tokens=tokens)]


@dataclass
class ScriptedServer:
    """`asked` are the requests so far: method and path, headers, body."""

    port: int
    answers: list[Sequence[Step]]
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    left: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                first = lines.readline().decode("latin-1")
                headers = {}
                while line := lines.readline().decode("latin-1").strip():
                    name, _, value = line.partition(": ")
                    headers[name.lower()] = value
                body = lines.read(int(headers.get("content-length", 0)))
                self.asked.append((first.rpartition(" ")[0], headers, json.loads(body) if body else None))
                for step in self.answers.pop(0):
                    if step is GONE:
                        assert lines.read(1) == b""
                        self.left.set()
                    elif isinstance(step, bytes):
                        connection.sendall(step)
                    elif isinstance(step, float):
                        time.sleep(step)
            except OSError:
                self.left.set()


@contextmanager
def scripted(*answers: Sequence[Step] | bytes) -> Iterator[ScriptedServer]:
    """Answers each connection by the next script."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        scripts = [[one] if isinstance(one, bytes) else one for one in answers]
        server = ScriptedServer(listening.getsockname()[1], scripts)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=server.serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server
        finally:
            listening.shutdown(socket.SHUT_RDWR)
