"""`ownlm serve`: models put to work for programs and people, over HTTP."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

LOAD = Group("How much at once", sort_key=5)
MODELS = Group("Several models", sort_key=6)
ACCESS = Group("Who gets in", sort_key=7)
DATA = Path("runs/server")
_UNITS = {"m": 60, "h": 3600, "d": 86_400}


def serve(
    *models: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    data: Path = DATA,
    keep: str = "30d",
    adapter: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
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
    """
    from ownlm.cli.serve_models import find_models
    from ownlm.errors import OwnlmError
    from ownlm.server import logs
    from ownlm.server.app import make_app
    from ownlm.server.batches.kept import Batches
    from ownlm.server.files import Files
    from ownlm.server.gate import LOOPBACK
    from ownlm.server.keys import Keys
    from ownlm.server.limits import Limits
    from ownlm.server.responses.going import Responses
    from ownlm.server.responses.kept import Kept
    from ownlm.server.run import Address
    from ownlm.server.run import serve as run
    from ownlm.server.service import Service
    from ownlm.server.shelf import Room, size
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
    logs.set_up(log)
    found = find_models(
        models, adapter, limits, memory=memory, pinned=pin, max_sequences=max_sequences, cache_tokens=cache_tokens
    )
    service = Service(
        hosted=found.hosted,
        embedders=found.embedders,
        room=Room(most_bytes=found.most_bytes, idle_seconds=idle_seconds),
        limits=limits,
        keys=keys,
        responses=Responses(Kept(store, seconds=seconds)),
        files=Files(store, limits),
        batches=Batches(store),
        keep_seconds=seconds,
    )
    try:
        service.shelf.load_now(found.to_load(load))
    except BaseException:
        for one in service.everything:
            one.close()
        raise
    app = make_app(
        service,
        hosts=LOOPBACK | {name.lower() for name in host_name} if address.is_loopback else None,
        origins=frozenset(allow_origin),
    )

    def started(url: str) -> None:
        who = "with a key" if keys.any else "from this machine, without a key"
        names = ", ".join([*service.names(), *service.embedders])
        sys.stdout.write(f"Serving {names} at {url}/v1, {who}; Ctrl-C ends it.\n")
        if waiting := [one.name for one in service.everything if not one.loaded]:
            within = "" if found.most_bytes is None else f", within {size(found.most_bytes)} of memory"
            sys.stdout.write(f"Loaded when they are asked for{within}: {', '.join(waiting)}.\n")
        until = "until it is deleted" if seconds is None else f"for {keep}"
        sys.stdout.write(f"What clients store is kept {until}, in {data}; `ownlm serve data` exports and deletes it.\n")
        sys.stdout.flush()

    run(app, service, address, started=started)
    return 0


def _seconds(given: str, flag: str, such_as: str) -> float:
    """A time such as 30d."""
    from ownlm.errors import OwnlmError

    number, unit = given[:-1], given[-1:]
    if unit not in _UNITS or not number.isascii() or not number.isdecimal() or not 0 < int(number[:10]) < 100_000:
        raise OwnlmError(f"{flag} must be a time such as {such_as}, got {given[:80]!r}")
    return float(int(number) * _UNITS[unit])
