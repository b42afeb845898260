"""(peers) What schemathesis makes of our own OpenAPI: no 500, answers as described, and the next one right."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from ownlm.server.app import make_app
from ownlm.server.keys import Keys
from ownlm.server.limits import Limits
from ownlm.server.store import Store
from serving import Server, serving, whole_service, wide_copy

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(
        importlib.util.find_spec("schemathesis") is None, reason="announced: schemathesis is not installed"
    ),
    # The client's own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
# OWNLM_API_EXAMPLES=300 for a long run: so many of every route, those that are right and those that are not.
EXAMPLES = int(os.environ.get("OWNLM_API_EXAMPLES", "12"))
RIGHT = {"model": "chat", "prompt": "The cat", "max_tokens": 3, "temperature": 0}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(Store(tmp_path_factory.mktemp("keys")))


@pytest.fixture(scope="module")
def key(keys: Keys) -> dict[str, str]:
    return {"authorization": f"Bearer {keys.add('fuzz')}"}


@pytest.fixture(scope="module")
def server(workshop: Path, tmp_path_factory: pytest.TempPathFactory, keys: Keys, key: Any) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("fuzzed")
    model = wide_copy(workshop / "chat", folder / "chat", context=192)
    service = whole_service(model, folder / "data", limits=Limits(request_tokens=2_000, request_seconds=10), keys=keys)
    with serving(make_app(service)) as server:
        yield server


def test_every_route_answers_as_described(server: Server, key: dict[str, str]) -> None:
    import schemathesis
    from schemathesis import checks
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi import checks as described

    asked = [
        checks.not_a_server_error,
        described.status_code_conformance,
        described.content_type_conformance,
        described.response_schema_conformance,
    ]
    expected = server.post("/v1/completions", RIGHT, headers=key).json()["choices"]
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=key)
    found = [one.ok() for one in schema.get_all_operations()]
    assert {"/v1/chat/completions", "/v1/messages", "/v1/files", "/rerank"} <= {one.path for one in found}
    for operation in found:
        # What takes neither a body nor a query can be asked in no wrong way.
        wrong = [GenerationMode.NEGATIVE] if operation.body or operation.query else []
        for mode in (GenerationMode.POSITIVE, *wrong):

            @settings(
                max_examples=EXAMPLES,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def answers(case: Any) -> None:
                if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
                    case.body["model"] = "chat"
                response = case.call(headers=key, timeout=30)
                case.validate_response(response, checks=asked)

            answers()
        again = server.post("/v1/completions", RIGHT, headers=key)
        assert again.status == 200 and again.json()["choices"] == expected, operation.path
