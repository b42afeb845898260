"""Streaming clients in a process of their own: a job a line in, its answers a line out. See serve_load.py.

    {"port", "clients", "bodies"}  ──▶  so many clients, each taking the next body as soon as its answer is whole
                                   ──▶  {"seconds", "client_seconds", "answers": [{"sent", "arrivals", "finish"}, ...]}

`arrivals` are [seconds, characters of text] for each event that came, on the clock of `sent`. While answers come
nothing is done but noting when; they are read as JSON after the last byte. So `client_seconds`, the processor time
until then, is what asking and receiving cost, and no more.
"""

import asyncio
import gc
import json
import sys
import time
from collections import deque
from typing import Any

Event = tuple[float, bytes]
HEAD = "POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"


async def ask(port: int, body: bytes) -> tuple[float, list[Event]]:
    """When the request was sent, and each chunk of what came back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"{HEAD.format(port=port)}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        sent = time.perf_counter()
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in answer.split(b"\r\n", 1)[0] or b"chunked" not in answer.lower():
            raise SystemExit(f"not a stream: {answer!r} {await reader.read()!r}")
        events: list[Event] = []
        while size := int(await reader.readline(), 16):
            data = await reader.readexactly(size + 2)
            events.append((time.perf_counter(), data[:-2]))
        return sent, events
    finally:
        writer.close()


async def all_of(port: int, clients: int, bodies: list[bytes]) -> list[tuple[float, list[Event]]]:
    waiting, answers = deque(bodies), []

    async def client() -> None:
        while waiting:
            answers.append(await ask(port, waiting.popleft()))

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


def read(sent: float, chunks: list[Event]) -> dict[str, Any]:
    """An answer's events; one that a chunk cuts in two counts when it is whole."""
    arrivals: list[tuple[float, int]] = []
    finish, rest = None, b""
    for at, data in chunks:
        *whole, rest = (rest + data).replace(b"\r\n", b"\n").split(b"\n\n")
        for event in whole:
            written = event.partition(b"data: ")[2]
            if not written or written == b"[DONE]":
                continue
            for choice in json.loads(written)["choices"]:
                arrivals.append((at, len(choice["text"])))
                finish = choice["finish_reason"] or finish
    return {"sent": sent, "arrivals": arrivals, "finish": finish}


def job(asked: dict[str, Any]) -> dict[str, Any]:
    bodies = [json.dumps(body).encode() for body in asked["bodies"]]
    gc.collect()
    gc.disable()
    began, cpu = time.perf_counter(), time.process_time()
    answers = asyncio.run(all_of(asked["port"], asked["clients"], bodies))
    seconds, own = time.perf_counter() - began, time.process_time() - cpu
    gc.enable()
    return {"seconds": seconds, "client_seconds": own, "answers": [read(*answer) for answer in answers]}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(job(json.loads(line))), flush=True)
