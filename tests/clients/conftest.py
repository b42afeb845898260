"""What the clients' tests share: a server with the tiny workshop model, and one with SmolLM2 where it was fetched."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ownlm.opened import Model, load
from ownlm.server.app import make_app
from ownlm.server.hosted import Hosted
from ownlm.server.keys import Keys
from ownlm.server.service import Service
from ownlm.server.store import Store
from serving import Server, serving, whole_service, wide_copy
from starter_model import fetched_smollm2


@dataclass(frozen=True)
class Served:
    """A server, the model that is asked there, and a key that it knows."""

    server: Server
    model: str
    key: str
    opened: Model
    folder: Path  # of the workshop's model

    @property
    def v1(self) -> str:
        return f"{self.server.url}/v1"


@pytest.fixture(scope="session", params=["workshop", "smollm2"])
def served(
    request: pytest.FixtureRequest, workshop: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """By parameter: workshop, smollm2, or exact, which is SmolLM2 in float32."""
    folder = tmp_path_factory.mktemp("served")
    keys = Keys(Store(folder / "keys"))
    key = keys.add("client")
    if request.param == "workshop":
        service = whole_service(wide_copy(workshop / "chat", folder / "chat"), folder / "data", keys=keys)
    else:
        exact = fetched_smollm2()  # skips where it is not there
        model = exact if request.param == "exact" else load("smollm2")
        service = Service(hosted={"smollm2": Hosted("smollm2", model)}, keys=keys)
    with serving(make_app(service)) as server:
        ((name, hosted),) = service.hosted.items()
        yield Served(server, name, key, hosted.model, folder / "chat")


@pytest.fixture(autouse=True)
def no_settings_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and addresses of other services stay out of the tests, and nothing is sent to them."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "LANGSMITH_TRACING"):
        monkeypatch.delenv(name, raising=False)
