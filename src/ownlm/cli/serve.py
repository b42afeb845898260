"""`ownlm serve`: models put to work for programs and people, over HTTP."""

import gc
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from ownlm.cli.serve_models import Found
    from ownlm.server.guard.guard import Guard
    from ownlm.server.guard.policy import Policy
    from ownlm.server.service import Service

LOAD = Group("How much at once", sort_key=5)
MODELS = Group("Several models", sort_key=6)
ACCESS = Group("Who gets in", sort_key=7)
CLUSTER = Group("In more than one process", sort_key=8)
DATA = Path("runs/server")
_UNITS = {"m": 60, "h": 3600, "d": 86_400}


def serve(
    *models: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    data: Path = DATA,
    keep: str = "30d",
    adapter: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    policy: Path | None = None,
    log: Literal["text", "json"] = "text",
    max_sequences: Annotated[int | None, Parameter(group=LOAD)] = None,
    cache_tokens: Annotated[int | None, Parameter(group=LOAD)] = None,
    waiting_requests: Annotated[int, Parameter(group=LOAD)] = 256,
    waiting_tokens: Annotated[int, Parameter(group=LOAD)] = 500_000,
    request_seconds: Annotated[float, Parameter(group=LOAD)] = 600.0,
    drain_seconds: Annotated[float, Parameter(group=LOAD)] = 30.0,
    body_bytes: Annotated[int, Parameter(group=LOAD)] = 16 * 2**20,
    file_bytes: Annotated[int, Parameter(group=LOAD)] = 100 * 2**20,
    owner_bytes: Annotated[int, Parameter(group=LOAD)] = 2**30,
    load: Annotated[Literal["first", "all"], Parameter(group=MODELS)] = "first",
    memory: Annotated[str | None, Parameter(group=MODELS)] = None,
    idle_unload: Annotated[str | None, Parameter(group=MODELS)] = None,
    pin: Annotated[tuple[str, ...], Parameter(group=MODELS, show_default=False)] = (),
    host_name: Annotated[tuple[str, ...], Parameter(group=ACCESS, show_default=False)] = (),
    allow_origin: Annotated[tuple[str, ...], Parameter(group=ACCESS, show_default=False)] = (),
    certificate: Annotated[Path | None, Parameter(group=ACCESS)] = None,
    private_key: Annotated[Path | None, Parameter(group=ACCESS)] = None,
    vllm_metrics: Annotated[bool, Parameter(negative="")] = False,
    on: Annotated[str | None, Parameter(group=CLUSTER)] = None,
    replicas: Annotated[int, Parameter(group=CLUSTER)] = 1,
    replica_cpus: Annotated[float | None, Parameter(group=CLUSTER)] = None,
    replica_gpus: Annotated[float, Parameter(group=CLUSTER)] = 0.0,
) -> int:
    """Answer requests to MODELS in the shapes of OpenAI's API.

    Example: ownlm serve smollm2 expert=runs/legal --port 8000

    Without a key it listens to this machine alone; `ownlm serve keys add NAME` makes one.

    Parameters
    ----------
    models
        Model folders, runs' folders, .gguf files, starters (smollm2), hub:ORG/NAME, folders of embedding models;
        NAME=MODEL says what clients call it.
    host
        The address to listen at; another than this machine's own needs a key.
    port
        The port; 0 takes a free one.
    data
        The folder for keys and whatever clients store.
    keep
        How long that is kept, such as 30d, 12h or 45m; "forever" until its owner deletes it.
    adapter
        NAME=FOLDER: a LoRA adapter of the first model that writes, asked for as MODEL:NAME. May be given several times.
    policy
        A TOML file of rules for what is asked and answered; see docs/server.md, Guard.
    log
        How a request is noted on stderr: a line to read, or JSON. Never with what was said.
    max_sequences
        Answers that are written side by side (32).
    cache_tokens
        Room for keys and values, in tokens.
    waiting_requests
        So many may wait; the next is refused with 429.
    waiting_tokens
        Tokens of prompts that may wait.
    request_seconds
        An answer that is not whole by then is given up.
    drain_seconds
        How long answers may go on when the server is told to end.
    body_bytes
        The longest body that is read.
    file_bytes
        The longest file that is taken for batches.
    owner_bytes
        All that a key's files and batches may hold.
    load
        At the start the first model, and those of --pin; or all. The others are loaded when they are first asked for.
    memory
        All loaded models together, such as 8g or 800m, weights and caches; who needs room pushes out the model used
        longest ago, never one that is at work. By default four fifths of what is free, and without bound for one model.
    idle_unload
        A model that nobody has used for so long is unloaded, such as 15m.
    pin
        The NAME of a model that is loaded at the start and stays so. May be given several times.
    host_name
        A further name under which the server may be asked, for a proxy in front of it.
    allow_origin
        A page's origin, such as https://example.org, that may ask from a browser.
    certificate
        A PEM file, for https.
    private_key
        Its key, a PEM file.
    vllm_metrics
        Tell /metrics by vLLM's names too (vllm:...), for boards and balancers that were made for it.
    on
        local-ray: under Ray Serve, in processes of this machine; ray://HOST: on the cluster whose head that is.
    replicas
        So many processes answer, each with the models of its own. Needs --on.
    replica_cpus
        Threads of a replica; left out: this machine's, shared out, on a cluster one.
    replica_gpus
        Graphics cards of a replica.
    """
    from ownlm.cli.serve_models import find_models
    from ownlm.errors import OwnlmError
    from ownlm.server import logs
    from ownlm.server.batches.kept import Batches
    from ownlm.server.files import Files
    from ownlm.server.gate import LOOPBACK
    from ownlm.server.guard.policy import read_policy
    from ownlm.server.keys import Keys
    from ownlm.server.limits import Limits
    from ownlm.server.responses.going import Responses
    from ownlm.server.responses.kept import Kept
    from ownlm.server.run import Address
    from ownlm.server.run import serve as run
    from ownlm.server.service import Service
    from ownlm.server.shelf import Room
    from ownlm.server.store import Store

    address = Address(host=host, port=port, certificate=certificate, private_key=private_key)
    limits = Limits(
        waiting_requests=waiting_requests,
        waiting_tokens=waiting_tokens,
        request_seconds=request_seconds,
        drain_seconds=drain_seconds,
        body_bytes=body_bytes,
        file_bytes=file_bytes,
        owner_bytes=owner_bytes,
    )
    seconds = None if keep == "forever" else _seconds(keep, "--keep", "30d, 12h or 45m, or forever")
    idle_seconds = None if idle_unload is None else _seconds(idle_unload, "--idle-unload", "15m or 2h")
    store = Store(data)
    keys = Keys(store)
    if not address.is_loopback and not keys.any:
        raise OwnlmError(
            f"{host} can be reached from other machines, and there is no key; `ownlm serve keys add NAME "
            f"--data {data}` makes one, or leave out --host"
        )
    rules = None if policy is None else read_policy(policy)
    if rules is not None and on is not None:
        raise OwnlmError(
            "--policy does not go with --on: the log of its decisions has one writer; leave one of them out"
        )

    def build(data: Path, *, keeps: bool = True, beside: bool = False) -> "tuple[ASGIApp, Service]":
        """In the process that answers; `keeps`: whatever clients store."""
        logs.set_up(log)
        store = Store(data)
        # The routes take a second to import, beside which the models' files are read.
        Thread(target=import_module, args=("ownlm.server.app",), daemon=True).start()
        with _made_to_stay():
            found = find_models(
                models,
                adapter,
                limits,
                memory=memory,
                # Every request needs the guard models.
                pinned=(*pin, *(() if rules is None else rules.guard_models & names_of(models).keys())),
                processes=1 if on is None else replicas,
                max_sequences=max_sequences,
                cache_tokens=cache_tokens,
            )
            service = Service(
                hosted=found.hosted,
                guard=None if rules is None else _guard(rules, data, found),
                embedders=found.embedders,
                room=Room(most_bytes=found.most_bytes, idle_seconds=idle_seconds),
                limits=limits,
                keys=Keys(store),
                responses=Responses(Kept(store, seconds=seconds) if keeps else None),
                files=Files(store, limits) if keeps else None,
                batches=Batches(store) if keeps else None,
                keep_seconds=seconds,
                beside=beside,
            )
            service.load(found.to_load(load))
            from ownlm.server.app import make_app

        service.metrics.vllm_names = vllm_metrics
        hosts = LOOPBACK | {name.lower() for name in host_name} if address.is_loopback else None
        return make_app(service, hosts=hosts, origins=frozenset(allow_origin)), service

    def told(url: str, names: Iterable[str], *, later: Sequence[str] = (), keeps: bool = True) -> None:
        who = "with a key" if keys.any else "from this machine, without a key"
        sys.stdout.write(f"Serving {', '.join(names)} at {url}/v1, {who}; Ctrl-C ends it.\n")
        if later:
            sys.stdout.write(f"Loaded when they are asked for: {', '.join(later)}.\n")
        until = "until it is deleted" if seconds is None else f"for {keep}"
        kept = f"kept {until}, in {data}; `ownlm serve data` exports and deletes it" if keeps else "not taken"
        sys.stdout.write(f"What clients store is {kept}.\n")
        if rules is not None:
            sys.stdout.write(
                f"{len(rules.rules)} rules of {policy} hold; decisions are noted in {data / 'guard.jsonl'}.\n"
            )
        sys.stdout.flush()

    if on is not None:
        from ownlm.cli.open_model import fetch_if_starter
        from ownlm.server.on_ray import Cluster, serve_on_ray

        cluster = Cluster(on=on, replicas=replicas, cpus=replica_cpus, gpus=replica_gpus)
        named = names_of(models)
        if cluster.is_local:
            for model in named.values():
                fetch_if_starter(model)
        ray_started = partial(told, names=[*named], keeps=cluster.is_local)
        serve_on_ray(build, cluster, address, limits, keys=keys, data=data, started=ray_started)
        return 0
    if replicas != 1:
        raise OwnlmError("--replicas is for Ray Serve; add --on local-ray")
    app, service = build(data)
    names = [*service.names(), *service.embedders]
    later = [one.name for one in service.everything if not one.loaded]
    run(app, service, address, started=lambda url: told(url, names, later=later))
    return 0


def _guard(policy: "Policy", data: Path, found: "Found") -> "Guard":
    from ownlm.server.guard.guard import Guard
    from ownlm.server.guard.log import DecisionLog

    adapted = (f"{name}:{called}" for name, one in found.hosted.items() for called in one.adapters)
    policy.check_names([*found.hosted, *found.embedders, *adapted])
    return Guard(policy, DecisionLog(data), found.hosted.get)


@contextmanager
def _made_to_stay() -> Iterator[None]:
    """What is made here stays until the end: Python's collector looks at it neither now nor while answers wait."""
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()


def _seconds(given: str, flag: str, such_as: str) -> float:
    """A time such as 30d."""
    from ownlm.errors import OwnlmError

    number, unit = given[:-1], given[-1:]
    if unit not in _UNITS or not number.isascii() or not number.isdecimal() or not 0 < int(number[:10]) < 100_000:
        raise OwnlmError(f"{flag} must be a time such as {such_as}, got {given[:80]!r}")
    return float(int(number) * _UNITS[unit])


def names_of(models: Sequence[str]) -> dict[str, str]:
    """What each MODEL is called."""
    from ownlm.errors import OwnlmError

    if not models:
        raise OwnlmError("name at least one MODEL to serve, such as smollm2 or runs/quickstart/chat")
    named: dict[str, str] = {}
    for written in models:
        name, model = named_model(written)
        if name in named:
            raise OwnlmError(f"two models would be called {name}; name one of them otherwise: NAME={model}")
        named[name] = model
    return named


def named_model(written: str, *, needs_name: bool = False) -> tuple[str, str]:
    """NAME=MODEL, or a MODEL that is called by its last part."""
    from ownlm.errors import OwnlmError

    name, equals, model = written.partition("=")
    if equals and not Path(written).exists() and name and model:
        if not name.isprintable():
            raise OwnlmError("a model's name must be printable")
        return name, model
    if needs_name:
        raise OwnlmError(f"an adapter is given as NAME=FOLDER, got {written!r}")
    path = Path(written)
    called = path.resolve().name if path.exists() else written
    if path.is_dir() and called in ("chat", "base", "model"):
        # In a run's folder many are called alike.
        called = f"{path.resolve().parent.name}-{called}"
    called = called.removesuffix(".gguf")
    if not called.isprintable():
        raise OwnlmError(f"{written!a} has a name that cannot be shown; name it: NAME=MODEL")
    return called, written
