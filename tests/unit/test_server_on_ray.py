"""ownlm serve --on: what is refused without Ray; with it, two replicas that answer like one server."""

import importlib.util
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ownlm.cli.main import run as ownlm
from ownlm.errors import OwnlmError
from ownlm.server.keys import Keys
from ownlm.server.limits import Limits
from ownlm.server.on_ray import Cluster, serve_on_ray
from ownlm.server.run import Address
from ownlm.server.store import Store
from serving import Server, wide_copy

ASKED = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8, "temperature": 0}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--on", "local-ray"], "pip install 'ownlm[cluster]'"),
        (["--on", "kubernetes"], "--on is local-ray, or ray://HOST"),
        (["--on", "local-ray", "--replicas", "0"], "--replicas must be at least 1"),
        (["--on", "local-ray", "--replica-cpus", "-1"], "--replica-cpus must be 0.01 or more"),
        (["--replicas", "2"], "add --on local-ray"),
    ],
)
def test_what_cannot_be_is_one_line(
    workshop: Path,
    tmp_path: Path,
    options: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert ownlm(["serve", f"chat={workshop / 'chat'}", "--data", str(tmp_path / "data"), *options]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_quota_needs_one_machine(tmp_path: Path) -> None:
    keys = Keys(Store(tmp_path))
    keys.add("anna", tokens_a_day=100)

    def build(*_: object, **__: object) -> None:
        raise AssertionError

    more = {"keys": keys, "data": tmp_path, "started": print}
    with pytest.raises(OwnlmError, match="anna has a quota"):
        serve_on_ray(build, Cluster(on="ray://head"), Address(), Limits(), **more)  # type: ignore[arg-type]


def test_keys_go_along(tmp_path: Path) -> None:
    keys, others = Keys(Store(tmp_path / "a")), Keys(Store(tmp_path / "b"))
    key = keys.add("anna", models=["chat"])
    others.put(keys.rows())
    found = others.find(key)
    assert found is not None and found == keys.find(key)


def test_a_clusters_address_has_a_port() -> None:
    assert Cluster(on="ray://head").address == "ray://head:10001"
    assert Cluster(on="ray://head:7").address == "ray://head:7"


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="announced: Ray is not installed")
def test_two_replicas_answer_like_one_server(workshop: Path, tmp_path: Path) -> None:
    data, model = tmp_path / "data", wide_copy(workshop / "chat", tmp_path / "chat")
    key = Keys(Store(data)).add("anna")
    options = ["--on", "local-ray", "--replicas", "2", "--replica-cpus", "1", "--port", "0", "--data", data]
    command = [sys.executable, "-m", "ownlm.cli", "serve", f"chat={model}", *options]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            assert "with a key" in first, (tmp_path / "log").read_text()
            server = Server(int(first.partition("127.0.0.1:")[2].partition("/")[0]))
            bearer = {"authorization": f"Bearer {key}"}
            assert server.post("/v1/chat/completions", ASKED).status == 401
            text = server.post("/v1/chat/completions", ASKED, headers=bearer).json()["choices"][0]["message"]["content"]
            for _ in range(4):
                events = server.post("/v1/chat/completions", {**ASKED, "stream": True}, headers=bearer).events()
                assert "".join(one["choices"][0]["delta"].get("content") or "" for one in events) == text
            # Whatever replica is asked knows what any has stored; what only one would know of is refused.
            body = {"model": "chat", "input": "Hi", "max_output_tokens": 4}
            kept = server.post("/v1/responses", body, headers=bearer).json()["id"]
            assert all(server.get(f"/v1/responses/{kept}", headers=bearer).status == 200 for _ in range(6))
            assert server.post("/v1/responses", {**body, "background": True}, headers=bearer).status == 400
            told = [server.get("/metrics", headers=bearer).body.decode() for _ in range(12)]
            assert (
                len({re.findall(r'num_requests_running{model_name="chat",replica="(\w+)"}', one)[0] for one in told})
                == 2
            )
            # Who leaves leaves no work behind.
            long = {**ASKED, "max_tokens": 900, "ignore_eos": True}
            with pytest.raises(TimeoutError):
                server.post("/v1/chat/completions", long, headers=bearer, timeout=0.3)
            time.sleep(1)
            told = [server.get("/metrics", headers=bearer).body.decode() for _ in range(12)]
            assert all('num_requests_running{model_name="chat",replica="' in one for one in told)
            assert not any(re.search(r"num_requests_running{[^}]*} [1-9]", one) for one in told)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
        assert process.returncode == 0
