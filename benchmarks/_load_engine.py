"""The engine alone, without HTTP, in a process of its own: the jobs of _load_client.py, answered as the server would.

The requests are submitted to the same EngineThread and read by as many asyncio tasks as there would be clients; what
is left out is sockets, JSON, the routes, admission, and turning the prompts' text into ids.

    python _load_engine.py FILE SLOTS
"""

import asyncio
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from ownlm.engine import EngineConfig, Request, Sampling
from ownlm.engine.background import EngineThread
from ownlm.opened import load


async def all_of(background: EngineThread, clients: int, requests: list[Request]) -> list[dict[str, Any]]:
    waiting, answers = deque(requests), []

    async def client() -> None:
        while waiting:
            answer = background.submit(waiting.popleft())
            sent, arrivals, finish = time.perf_counter(), [], None
            async for piece in answer:
                pieces = [piece, *answer.take_ready()]
                arrivals.append((time.perf_counter(), sum(len(one.text) for one in pieces)))
                finish = pieces[-1].finish_reason
            answers.append({"sent": sent, "arrivals": arrivals, "finish": finish})

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


def main(file: Path, slots: int) -> None:
    model = load(file, device="cpu", dtype="auto", engine=EngineConfig(max_sequences=slots))
    with EngineThread(model.engine) as background:
        print("ready", flush=True)
        for line in sys.stdin:
            asked = json.loads(line)
            requests = [
                Request(
                    prompt=model.tokenizer.prompt_ids(body["prompt"]),
                    sampling=Sampling(max_tokens=body["max_tokens"], temperature=0, ignore_eos=True),
                )
                for body in asked["bodies"]
            ]
            began = time.perf_counter()
            answers = asyncio.run(all_of(background, asked["clients"], requests))
            seconds = time.perf_counter() - began
            print(json.dumps({"seconds": seconds, "client_seconds": 0.0, "answers": answers}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
