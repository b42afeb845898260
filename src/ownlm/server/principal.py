"""Who asks: a key with what it may do, or, on a server without keys, anybody at this machine."""

import fnmatch
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Principal:
    """`id` owns what is stored, and salts the prefix cache. `models` and `routes` are patterns; empty: all."""

    id: str
    name: str
    models: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    tokens: int | None = None

    def may_use(self, model: str) -> bool:
        return not self.models or any(fnmatch.fnmatchcase(model, pattern) for pattern in self.models)

    def may_call(self, path: str) -> bool:
        return not self.routes or any(fnmatch.fnmatchcase(path, pattern) for pattern in self.routes)


# Where no key exists the server listens to this machine alone.
ANYBODY = Principal(id="local", name="local")
