"""The server under load, beside llama-cpp-python's and llama-server: the same GGUF file, threads, prompts and lengths.

Every round starts no server anew, and takes each side once, in turn: so many streaming clients, each with its next
request as soon as its answer is whole, until all are answered. No two prompts begin alike, so that nothing is found
computed; each answer has as many tokens as every other. The clients are a process of their own, on cores of its own
where there are more than `--threads`.

    first event     from when a request was sent until the first event of its stream, whatever it holds
    first text      the same until the first event with text in it
    between         from one event with text to the next; an event may hold more than one token
    http cost       what the requests took more through HTTP than from the engine alone (_load_engine.py), in % of that;
                    the clients' own processor time is taken off where they share the servers' cores
    loop            processor time of our server's event loop, in % of what the engine alone took: what HTTP costs at
                    most, whatever else runs on the machine

llama-cpp-python's server answers one request at a time; the others wait. Its figures at 8 and 32 clients say what its
users get there, not how fast its model computes.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from _common import Target, finish, parser, python_text, set_threads, table
from _load_sides import HERE, Cores, Running, Side, Worker, running, sides
from _random_model import random_file

TARGETS: dict[str, Target] = {
    "http_cost_percent_8": ("<=", 10.0),
    "loop_percent_8": ("<=", 10.0),
    "ready_seconds": ("<=", 5.0),
    "tokens_over_llama_cpp_python_8": (">=", 2.5),
    "tokens_over_llama_cpp_python_32": (">=", 3.0),
    "tokens_over_llama_server_8": (">=", 2.5),
    "tokens_over_llama_server_32": (">=", 3.0),
}
SLOTS = 8
PEER_VERSION = ["-c", "from importlib.metadata import version; print(version('llama_cpp_python'))"]
ENGINE = "ours, engine alone"


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--file", type=Path, help="a GGUF file; else one with random weights is made")
    options.add_argument("--rounds", type=int, default=3, help="how often each side runs, in turn (default 3)")
    options.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32], help="how many at once (1 8 32)")
    options.add_argument("--requests", type=int, default=2, help="of each client in a round (default 2)")
    options.add_argument("--tokens", type=int, default=64, help="of each answer (default 64)")
    options.add_argument("--peer-python", type=Path, help="a Python that has llama-cpp-python with its server")
    options.add_argument("--llama-server", type=Path, help="llama.cpp's own server")
    chosen = options.parse_args()
    if chosen.quick:
        chosen.rounds, chosen.clients, chosen.tokens = 1, [1, 4], 8
    machine = set_threads(chosen.threads)
    cores = Cores.apart(chosen.threads)
    env = {**os.environ, "OMP_NUM_THREADS": str(chosen.threads)}
    with tempfile.TemporaryDirectory() as folder:
        file = chosen.file or random_file(Path(folder) / "random.gguf", small=chosen.quick)
        notes = [f"{file.name}, {file.stat().st_size / 1e6:.0f} MB", f"{SLOTS} slots, {chosen.tokens} tokens an answer"]
        found = sides(
            file.resolve(),
            Path(folder) / "data",
            slots=SLOTS,
            threads=chosen.threads,
            peer_python=chosen.peer_python,
            llama_server=chosen.llama_server,
        )
        ready = [start_once(found[0], cores, env) for _ in range(0 if chosen.quick else chosen.rounds)]
        with ExitStack() as held:
            servers = [held.enter_context(running(side, cores.servers, env)) for side in found]
            clients = Worker([sys.executable, str(HERE / "_load_client.py")], cores.clients, env)
            held.callback(clients.end)
            alone = Worker([sys.executable, str(HERE / "_load_engine.py"), str(file), str(SLOTS)], cores.servers, env)
            held.callback(alone.end)
            alone.line()
            runs = measure(servers, clients, alone, chosen)
        ready.append(servers[0].ready_seconds)
    figures = {"ready_seconds": median(ready)}
    notes.append("clients on cores of their own" if cores.clients else "clients on the servers' cores")
    if chosen.peer_python:
        notes.append(f"llama-cpp-python {said(PEER_VERSION, chosen.peer_python)} answers one request at a time")
    if chosen.llama_server:
        notes.append(f"llama-server {said(['--version'], chosen.llama_server)}")
    for count in chosen.clients:
        figures |= report(count, runs[count], shared=cores.clients is None, threads=chosen.threads)
    finish(figures, TARGETS, machine=machine, packages=["uvicorn", "fastapi"], notes=notes)


def said(arguments: Sequence[str], program: Path) -> str:
    """A peer's version, by its own word."""
    run = subprocess.run([program, *arguments], check=True, capture_output=True, text=True)
    return (run.stdout or run.stderr).strip().splitlines()[0].removeprefix("version: ")


def start_once(side: Side, cores: Cores, env: Mapping[str, str]) -> float:
    with running(side, cores.servers, env) as server:
        return server.ready_seconds


@dataclass(frozen=True, kw_only=True)
class Run:
    """One round of one side. Times in seconds; `loop_seconds`: see Running."""

    seconds: float
    client_seconds: float
    loop_seconds: float | None
    requests: int
    tokens: int
    first_event: list[float]
    first_text: list[float]
    between: list[float]


def measure(servers: Sequence[Running], clients: Worker, alone: Worker, chosen: Any) -> dict[int, dict[str, list[Run]]]:
    prompts = Prompts()
    runs: dict[int, dict[str, list[Run]]] = {}
    for round in range(-1, chosen.rounds):
        for count in chosen.clients:
            # The first round only warms up, with a request for each client.
            requests = count * (chosen.requests if round >= 0 else 1)
            for server in [*servers, None]:
                given = {"model": "model", "max_tokens": chosen.tokens, "temperature": 0, "stream": True}
                given |= server.side.fields if server is not None else {}
                bodies = [{**given, "prompt": prompts.next()} for _ in range(requests)]
                asked = {"clients": count, "bodies": bodies}
                before = server.loop_seconds() if server is not None else None
                if server is None:
                    found = alone.job(asked)
                else:
                    found = clients.job({**asked, "port": server.side.port})
                after = server.loop_seconds() if server is not None else None
                loop = None if before is None or after is None else after - before
                name = ENGINE if server is None else server.side.name
                if round >= 0:
                    runs.setdefault(count, {}).setdefault(name, []).append(run_of(name, found, chosen.tokens, loop))
    return runs


class Prompts:
    """Pieces of real text of a like length, each with a number in front that no other has."""

    def __init__(self, characters: int = 400) -> None:
        self._text, self._characters, self._given = "".join(python_text(2_000_000)), characters, 0

    def next(self) -> str:
        place = (self._given * self._characters) % (len(self._text) - self._characters)
        self._given += 1
        return f"{self._given}. {self._text[place : place + self._characters]}"


def run_of(name: str, found: Mapping[str, Any], tokens: int, loop_seconds: float | None) -> Run:
    answers = found["answers"]
    cut = [answer["finish"] for answer in answers if answer["finish"] != "length"]
    if cut:
        raise SystemExit(f"{name} ended {len(cut)} answers by {cut[0]!r} instead of by their length")
    texts = [[at for at, characters in answer["arrivals"] if characters] for answer in answers]
    pairs = list(zip(answers, texts, strict=True))
    return Run(
        seconds=found["seconds"],
        client_seconds=found["client_seconds"],
        loop_seconds=loop_seconds,
        requests=len(answers),
        tokens=tokens * len(answers),
        first_event=[answer["arrivals"][0][0] - answer["sent"] for answer in answers],
        first_text=[times[0] - answer["sent"] for answer, times in pairs if times],
        between=[later - earlier for times in texts for earlier, later in pairwise(times)],
    )


def report(count: int, runs: Mapping[str, list[Run]], *, shared: bool, threads: int) -> dict[str, float]:
    """Print the count's table, and give its figures; each is the median of the rounds."""
    figures: dict[str, float] = {}
    rows = []
    for name, rounds in runs.items():
        found = {
            "tokens_per_second": median(run.tokens / run.seconds for run in rounds),
            "requests_per_second": median(run.requests / run.seconds for run in rounds),
        }
        for what in ("first_event", "first_text", "between"):
            for percent in (50, 99):
                values = [percentile(getattr(run, what), percent) for run in rounds]
                found[f"{what}_p{percent}_milliseconds"] = 1000 * median(values)
        word = name.replace(", ", "_").replace(" ", "_").replace("-", "_")
        figures |= {f"{word}_{what}_{count}": value for what, value in found.items()}
        own = median(run.client_seconds for run in rounds)
        rows.append((name, *(f"{value:,.1f}" for value in found.values()), f"{own:.2f}"))
    print(f"\n{count} clients, {threads} threads; milliseconds, medians of the rounds")
    tails = [f"{what} p{percent}" for what in ("first event", "first text", "between") for percent in (50, 99)]
    table(["", "tokens/s", "requests/s", *tails, "clients' CPU s"], rows)
    figures |= http_cost(count, runs, shared=shared)
    for name in runs:
        if not name.startswith("ours"):
            word = name.replace("-", "_")
            ratio = figures[f"ours_tokens_per_second_{count}"] / figures[f"{word}_tokens_per_second_{count}"]
            figures[f"tokens_over_{word}_{count}"] = ratio
    return figures


def http_cost(count: int, runs: Mapping[str, list[Run]], *, shared: bool) -> dict[str, float]:
    alone = median(run.seconds for run in runs[ENGINE])
    ours = median(run.seconds - (run.client_seconds if shared else 0.0) for run in runs["ours"])
    figures = {f"http_cost_percent_{count}": 100 * (ours / alone - 1)}
    loops = [run.loop_seconds for run in runs["ours"] if run.loop_seconds is not None]
    if loops:
        figures[f"loop_percent_{count}"] = 100 * median(loops) / alone
    print("; ".join(f"{name} {value:.1f}" for name, value in figures.items()))
    return figures


def percentile(values: Sequence[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else (values or [0.0])[0]


if __name__ == "__main__":
    main()
