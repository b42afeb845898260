"""The servers that serve_load.py compares, each a process that is started, asked by the same clients, and ended."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ownlm.artefact.gguf_header import read_gguf

HERE = Path(__file__).parent
# Tokens of one text's prompt and answer, which the peers want to know at their start.
CONTEXT = 1024
# The longest that a server may take to begin.
_START_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class Cores:
    """Where the servers run and where the clients; None where there are too few to keep them apart."""

    servers: frozenset[int] | None = None
    clients: frozenset[int] | None = None

    @classmethod
    def apart(cls, threads: int) -> "Cores":
        if not hasattr(os, "sched_getaffinity") or len(mine := sorted(os.sched_getaffinity(0))) <= threads:
            return cls()
        return cls(servers=frozenset(mine[:threads]), clients=frozenset(mine[threads:]))


class Worker:
    """A process that takes a job a line and gives a line for each."""

    def __init__(self, command: Sequence[str], cores: frozenset[int] | None, env: Mapping[str, str]) -> None:
        self.process = _popen(command, cores, env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self) -> str:
        assert self.process.stdout is not None
        found: str = self.process.stdout.readline()
        if not found:
            raise SystemExit(f"{self.process.args} ended with {self.process.wait()}")
        return found

    def job(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.line())
        return found

    def end(self) -> None:
        """Its input ends, and so does it."""
        self.process.communicate()


@dataclass(frozen=True, kw_only=True)
class Side:
    """A server: how it is begun, what it answers when it is ready, and its words for an answer of full length."""

    name: str
    command: Sequence[str]
    port: int
    ready: str
    fields: Mapping[str, Any] = field(default_factory=dict)


def sides(
    file: Path, data: Path, *, slots: int, threads: int, peer_python: Path | None, llama_server: Path | None
) -> list[Side]:
    """Ours first. `data`: a folder for what our server keeps."""
    count, ports = str(threads), iter([_free_port() for _ in range(3)])
    port = next(ports)
    ours = [sys.executable, "-m", "ownlm.cli", "serve", f"model={file}", "--max-sequences", str(slots)]
    ours += ["--port", str(port), "--data", str(data)]
    found = [Side(name="ours", command=ours, port=port, ready="/ready", fields={"ignore_eos": True})]
    if peer_python is not None:
        port = next(ports)
        peer = [str(peer_python), "-m", "llama_cpp.server", "--model", str(file), "--model_alias", "model"]
        peer += ["--n_threads", count, "--n_threads_batch", count, "--n_ctx", str(CONTEXT), "--port", str(port)]
        # As it comes, a new request breaks off the stream that is going.
        peer += ["--interrupt_requests", "false", "--verbose", "false"]
        # It knows no ignore_eos.
        never = {"logit_bias": {str(id): -100 for id in _ends(file)}}
        found.append(Side(name="llama-cpp-python", command=peer, port=port, ready="/v1/models", fields=never))
    if llama_server is not None:
        port = next(ports)
        peer = [str(llama_server), "-m", str(file), "-t", count, "-tb", count, "-np", str(slots)]
        peer += ["-c", str(slots * CONTEXT), "--port", str(port), "--no-webui"]
        fields = {"ignore_eos": True, "cache_prompt": False}
        found.append(Side(name="llama-server", command=peer, port=port, ready="/health", fields=fields))
    return found


class Running:
    """A side that has begun. `ready_seconds`: from the start of its process until it said that it is ready."""

    def __init__(self, side: Side, process: "subprocess.Popen[str]", ready_seconds: float) -> None:
        self.side, self.process, self.ready_seconds = side, process, ready_seconds

    def loop_seconds(self) -> float | None:
        """Processor time of the main thread, which for ours is the event loop; None where the system does not tell."""
        stat = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/stat")
        if not stat.is_file():
            return None
        fields = stat.read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(side: Side, cores: frozenset[int] | None, env: Mapping[str, str]) -> Iterator[Running]:
    began = time.monotonic()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = _popen(side.command, cores, env, **quiet)
    try:
        while not _is_ready(side):
            if process.poll() is not None or time.monotonic() > began + _START_SECONDS:
                raise SystemExit(f"{side.name} does not begin: {' '.join(side.command)}")
            time.sleep(0.01)
        yield Running(side, process, time.monotonic() - began)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(side: Side) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{side.port}{side.ready}", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _popen(command: Sequence[str], cores: frozenset[int] | None, env: Mapping[str, str], **more: Any) -> Any:
    process = subprocess.Popen(command, env=env, **more)
    if cores is not None:
        os.sched_setaffinity(process.pid, cores)
    return process


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ends(file: Path) -> set[int]:
    metadata = read_gguf(file).metadata
    named = (metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos", "eot", "eom"))
    return {id for id in named if isinstance(id, int)}
