"""The MODELs of `ownlm serve`: what they are called, what each takes of memory, how much of it all may take.

All of them are looked at before one is loaded: a mistaken name or a damaged config ends in one line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ownlm.cli.open_model import asker
from ownlm.cli.serve import named_model, names_of
from ownlm.engine import EngineConfig
from ownlm.errors import OwnlmError
from ownlm.machine import best_device, free_bytes
from ownlm.model.locate import locate
from ownlm.opened import is_embedder, read_embedder_outline, read_outline
from ownlm.server.hosted import Hosted
from ownlm.server.hosted_embedder import HostedEmbedder
from ownlm.server.limits import Limits

# Of what is free at the start; the rest is for what a step computes, and for tokenizers.
_SHARE = 0.8
# Where a system does not say how much is free.
_UNKNOWN = 8 * 2**30
_UNITS = {"m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True, kw_only=True)
class Found:
    """`most_bytes`: of memory, for all that are loaded together; None: no bound."""

    hosted: dict[str, Hosted]
    embedders: dict[str, HostedEmbedder]
    first: str
    most_bytes: int | None

    def to_load(self, which: str) -> list[Hosted | HostedEmbedder]:
        """At the start: "all", or the "first" and those that are pinned."""
        every: list[Hosted | HostedEmbedder] = [*self.hosted.values(), *self.embedders.values()]
        return [one for one in every if which == "all" or one.pinned or one.name == self.first]


def find_models(
    models: Sequence[str],
    adapters: Sequence[str],
    limits: Limits,
    *,
    memory: str | None = None,
    pinned: Sequence[str] = (),
    processes: int = 1,
    max_sequences: int | None = None,
    cache_tokens: int | None = None,
) -> Found:
    """Nothing of a model's weights is read. `processes`: so many share the machine, each with all models."""
    named = names_of(models)
    if unknown := [name for name in pinned if name not in named]:
        raise OwnlmError(f"--pin {unknown[0]!a} is no model that is served; there are {', '.join(named)}")
    own = {called: Path(folder) for called, folder in (named_model(one, needs_name=True) for one in adapters)}
    device = best_device()
    free = free_bytes(device)
    most = None if memory is None else _bytes(memory)
    if most is None and free and len(named) > 1:
        most = int(_SHARE * free / processes)
    # A quarter for a cache, as an engine alone has it; with many models half of all for all their caches.
    cache_room = (most or free or _UNKNOWN) // max(4, 2 * len(named))
    sequences = max_sequences or EngineConfig.max_sequences
    config = EngineConfig(
        max_sequences=sequences, cache_tokens=cache_tokens, step_tokens=max(EngineConfig.step_tokens, sequences)
    )
    hosted: dict[str, Hosted] = {}
    embedders: dict[str, HostedEmbedder] = {}
    for name, model in named.items():
        place = locate(model, ask=asker())
        if is_embedder(place):
            embedders[name] = HostedEmbedder(name, read_embedder_outline(place, device=device), limits=limits)
            continue
        read = read_outline(place, engine=config, cache_room=cache_room, device=device)
        with_it = own if not hosted else {}
        for folder in with_it.values():
            read.check_adapter(folder)
        hosted[name] = Hosted(name, read, limits=limits, adapters=with_it)
    if own and not hosted:
        raise OwnlmError("an adapter is for a model that writes, and none is served")
    for name in pinned:
        (hosted.get(name) or embedders[name]).pinned = True
    return Found(hosted=hosted, embedders=embedders, first=next(iter(named)), most_bytes=most)


def _bytes(written: str) -> int:
    """A size such as 8g, in units of 1024."""
    number, unit = written[:-1], written[-1:].lower()
    try:
        found = float(number) * _UNITS[unit] if number[:1].isdecimal() and len(number) < 10 else 0.0
    except (KeyError, ValueError):
        found = 0.0
    if not 0 < found < 2**60:
        raise OwnlmError(f"--memory must be a size such as 8g or 800m, got {written[:80]!a}")
    return int(found)
