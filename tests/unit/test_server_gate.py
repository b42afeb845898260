"""Who gets in: keys, scopes, quotas, Host and Origin, sizes; every route but the probes is closed."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from ownlm.errors import OwnlmError
from ownlm.opened import load
from ownlm.server.app import ROUTERS, make_app
from ownlm.server.gate import OPEN_PATHS
from ownlm.server.hosted import Hosted
from ownlm.server.keys import Keys
from ownlm.server.limits import Limits
from ownlm.server.service import Service
from ownlm.server.store import Store
from serving import Server, serving

ASKED = {"model": "base", "prompt": "The cat", "max_tokens": 4, "temperature": 0}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(Store(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def anna(keys: Keys) -> str:
    return keys.add("anna")


@pytest.fixture(scope="module")
def server(workshop: Path, keys: Keys, anna: str) -> Iterator[Server]:
    hosted = {"base": Hosted("base", load(workshop / "base"))}
    limits = Limits(body_bytes=100_000, header_bytes=8_000, body_seconds=1)
    with serving(make_app(Service(hosted=hosted, keys=keys, limits=limits))) as server:
        yield server


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_every_route_is_closed_without_a_key(server: Server) -> None:
    app = FastAPI()
    for router in ROUTERS:
        app.include_router(router)
    routes = [(method, path) for path, found in app.openapi()["paths"].items() for method in found]
    assert len(routes) > 10
    for method, path in [*routes, ("get", "/openapi.json"), ("get", "/nowhere")]:
        answer = server.ask(method.upper(), path.replace("{name}", "base"), {} if method == "post" else None)
        assert answer.status == (200 if path in OPEN_PATHS else 401), path
        wrong = server.ask(method.upper(), path, {} if method == "post" else None, headers={"x-api-key": "own-wrong"})
        assert wrong.status == (200 if path in OPEN_PATHS else 401), path


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
def test_a_key_opens_by_every_header(server: Server, anna: str, header: str) -> None:
    headers = {header: f"Bearer {anna}" if header == "authorization" else anna}
    assert server.post("/v1/completions", ASKED, headers=headers).status == 200


def test_scopes_expiry_and_revoking_hold_at_once(server: Server, keys: Keys) -> None:
    bob = keys.add("bob", models=["other*"], routes=["/v1/models*", "/v1/completions"], expires=time.time() + 1.5)
    assert server.get("/v1/models", headers=bearer(bob)).json()["data"] == []
    assert server.post("/v1/completions", ASKED, headers=bearer(bob)).status == 404
    assert server.post("/tokenize", {"content": "x"}, headers=bearer(bob)).status == 403
    time.sleep(1.6)
    assert server.get("/v1/models", headers=bearer(bob)).status == 401
    carl = keys.add("carl")
    assert server.get("/v1/models", headers=bearer(carl)).status == 200
    keys.revoke("carl")
    assert server.get("/v1/models", headers=bearer(carl)).status == 401
    assert {key.name: key.holds for key in keys.list()} == {"anna": True, "bob": False, "carl": False}
    with pytest.raises(OwnlmError, match="no key called"):
        keys.revoke("carl")
    with pytest.raises(OwnlmError, match="already"):
        keys.add("anna")
    with pytest.raises(OwnlmError, match="a key's name"):
        keys.add("an\nna")


def test_a_quota_is_used_up(server: Server, keys: Keys) -> None:
    dora = keys.add("dora", tokens_a_day=8)
    assert server.post("/v1/completions", ASKED, headers=bearer(dora)).status == 200
    answers = [server.post("/v1/completions", ASKED, headers=bearer(dora)) for _ in range(3)]
    assert answers[-1].status == 429 and int(answers[-1].headers["retry-after"]) > 0
    assert answers[-1].json()["error"]["code"] == "insufficient_quota"
    assert next(key for key in keys.list() if key.name == "dora").used_today >= 8


def test_two_keys_share_no_cache(server: Server, keys: Keys, anna: str) -> None:
    prompt = {**ASKED, "prompt": "The old dogs ran to their red house in the rain and saw how seven cats sat on a mat."}
    eve = keys.add("eve")
    cached = [
        server.post("/v1/completions", prompt, headers=bearer(key)).json()["usage"]["prompt_tokens_details"]
        for key in (anna, anna, eve)
    ]
    assert [one["cached_tokens"] > 0 for one in cached] == [False, True, False]


def test_names_of_others_are_refused(server: Server, anna: str) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}):
        assert server.get("/v1/models", headers={**bearer(anna), **headers}).status == 403
        assert server.get("/ready", headers=headers).status == 403
    own = {"origin": server.url}
    assert server.get("/v1/models", headers={**bearer(anna), **own}).status == 200


def test_sizes_are_bounded(server: Server, anna: str) -> None:
    long = server.post("/v1/completions", {**ASKED, "prompt": "x" * 200_000}, headers=bearer(anna))
    assert long.status == 413 and long.json()["error"]["type"] == "invalid_request_error"
    assert server.get("/v1/models", headers={**bearer(anna), "x-long": "y" * 9_000}).status == 431
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {anna}\r\n"
        slow.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{{".encode())
        assert b" 408 " in slow.recv(1000).split(b"\r\n")[0]
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as chunked:
        chunked.sendall(f"{head}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(30):
            chunked.sendall(b"2000\r\n" + b" " * 8192 + b"\r\n")
        assert b" 413 " in chunked.recv(1000).split(b"\r\n")[0]
    assert server.post("/v1/completions", ASKED, headers=bearer(anna)).status == 200


def test_requests_have_ids(server: Server) -> None:
    answer = server.get("/v1/models")
    assert answer.headers["x-request-id"] == answer.headers["request-id"] != server.get("/live").headers["request-id"]
