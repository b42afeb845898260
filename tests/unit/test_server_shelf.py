"""Models that come and go: loaded once for all who wait, never unloaded under anybody, and woken by no probe."""

import asyncio
import gc
import http.client
import json
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.cli.serve_models import find_models
from ownlm.engine import EngineConfig
from ownlm.errors import OwnlmError
from ownlm.model.lora import LoraAdapter
from ownlm.model.lora_pair import LoraConfig
from ownlm.opened import load, read_embedder_outline, read_outline
from ownlm.server import shelf as module
from ownlm.server.admission import Admission
from ownlm.server.app import make_app
from ownlm.server.batches.kept import Batches
from ownlm.server.errors import LOAD_FAILED, NO_ROOM, ApiError
from ownlm.server.files import Files
from ownlm.server.hosted import Hosted
from ownlm.server.hosted_embedder import HostedEmbedder
from ownlm.server.limits import Limits
from ownlm.server.metrics import Metrics
from ownlm.server.service import Service
from ownlm.server.shelf import OnShelf, Room, Shelf
from ownlm.server.store import Store
from serving import Server, serving, wide_copy

BERT = Path(__file__).parents[1] / "parity" / "references" / "bert"
HELLO = [{"role": "user", "content": "Hello"}]


@dataclass(eq=False)
class Box(OnShelf):
    """A model of nothing. `gate`: a load or an unload goes on when it is set."""

    name: str
    bytes: int = 1
    pinned: bool = False
    can_load: bool = True
    there: bool = False
    fails: bool = False
    log: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.admission = Admission(1, Limits())
        self.gate.set()

    @property
    def loaded(self) -> bool:
        return self.there

    def load(self) -> Callable[[], None]:
        self.log.append("load")
        assert self.gate.wait(10)
        if self.fails:
            raise OwnlmError("its file is gone")

        def put() -> None:
            self.there = True

        return put

    def unload(self) -> Callable[[], None]:
        assert not self.uses
        self.log.append("unload")
        self.there = False
        return lambda: self.gate.wait(10) and None


def on_shelf(*models: Box, most: int | None = 1, idle: float | None = None) -> Shelf:
    return Shelf(models, Room(most_bytes=most, idle_seconds=idle), Metrics())


async def used(shelf: Shelf, model: Box, seconds: float | None = 10.0, *, background: bool = False) -> None:
    async with shelf.use(model, seconds=seconds, background=background):
        assert model.loaded


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


def test_who_asks_for_the_same_waits_for_the_same_load() -> None:
    async def main() -> None:
        box = Box("a")
        shelf = on_shelf(box)
        await asyncio.gather(*(used(shelf, box) for _ in range(5)))
        assert box.log == ["load"] and not box.uses

    asyncio.run(main())


def test_the_one_used_longest_ago_goes_and_those_at_work_or_pinned_stay() -> None:
    async def main() -> None:
        first, second, third, pinned = Box("a"), Box("b"), Box("c"), Box("p", pinned=True)
        shelf = on_shelf(first, second, third, pinned, most=3)
        shelf.load_now([pinned, first])
        await used(shelf, second)
        await used(shelf, first)
        await used(shelf, third)
        assert (first.there, second.there, third.there, pinned.there) == (True, False, True, True)
        async with shelf.use(first, seconds=1), shelf.use(third, seconds=1):
            with pytest.raises(ApiError, match="b takes 0 KiB of memory; 0 KiB may be used") as refused:
                await used(shelf, second)
            assert (refused.value.status, refused.value.code) == (503, NO_ROOM) and refused.value.retry_after
        await used(shelf, second)
        assert second.there and pinned.log == ["load"]

    asyncio.run(main())


def test_who_comes_while_it_is_unloaded_has_it_loaded_again() -> None:
    async def main() -> None:
        box = Box("a")
        shelf = on_shelf(box, idle=0.0)
        await used(shelf, box)
        box.gate.clear()
        unloading = asyncio.create_task(shelf.unload_idle())
        await until(lambda: "unload" in box.log)
        again = asyncio.create_task(used(shelf, box))
        await asyncio.sleep(0.02)
        assert box.log == ["load", "unload"] and not again.done()
        box.gate.set()
        await asyncio.gather(unloading, again)
        assert box.log == ["load", "unload", "load"]

    asyncio.run(main())


def test_who_leaves_takes_nothing_from_the_others() -> None:
    async def main() -> None:
        box, queued = Box("a"), Box("b")
        shelf = on_shelf(box, queued, most=2)
        box.gate.clear()
        leaves, stays = (asyncio.create_task(used(shelf, box)) for _ in range(2))
        behind = asyncio.create_task(used(shelf, queued))
        await until(lambda: bool(box.log))
        for task in (leaves, behind):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        box.gate.set()
        await stays
        await asyncio.sleep(0.02)
        # Nobody wanted the other any more when its turn came.
        assert (box.log, queued.log) == (["load"], []) and not box.uses and not queued.uses

    asyncio.run(main())


def test_a_deadline_ends_the_waiting_and_not_the_load() -> None:
    async def main() -> None:
        box = Box("a")
        shelf = on_shelf(box)
        box.gate.clear()
        with pytest.raises(ApiError) as late:
            await used(shelf, box, 0.05)
        assert (late.value.status, late.value.code) == (503, "deadline_exceeded")
        box.gate.set()
        await until(lambda: box.loaded)

    asyncio.run(main())


def test_what_cannot_be_loaded_is_said_and_tried_again() -> None:
    async def main() -> None:
        box = Box("a", fails=True)
        shelf = on_shelf(box)
        found = await asyncio.gather(*(used(shelf, box) for _ in range(2)), return_exceptions=True)
        assert [(one.status, one.code) for one in found if isinstance(one, ApiError)] == [(503, LOAD_FAILED)] * 2
        assert box.log == ["load"] and "gone" not in str(found[0])
        box.fails = False
        await used(shelf, box)

    asyncio.run(main())


def test_an_end_in_the_middle_of_a_load_is_not_waited_for() -> None:
    async def main() -> Box:
        box = Box("a")
        shelf = on_shelf(box)
        box.gate.clear()
        waits = asyncio.create_task(used(shelf, box))
        await until(lambda: bool(box.log))
        await asyncio.wait_for(shelf.close(), 1)
        await asyncio.gather(waits, return_exceptions=True)
        return box

    box = asyncio.run(main())
    box.gate.set()
    time.sleep(0.05)
    assert not box.loaded


def test_the_background_waits_and_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOKS", 0.01)
    monkeypatch.setattr(module, "_SETTLED", 0.3)

    async def main() -> None:
        box, other = Box("a"), Box("b")
        shelf = on_shelf(box, other)
        await used(shelf, box)
        # It pushes out nothing that was used just now.
        line = asyncio.create_task(used(shelf, other, None, background=True))
        await asyncio.sleep(0.1)
        assert box.loaded and not line.done()
        await line
        assert other.loaded
        # A request finds the background at work, is refused, and comes through when it has ended that.
        async with shelf.use(other, seconds=None, background=True):
            with pytest.raises(ApiError, match="a takes"):
                await used(shelf, box)
            line = asyncio.create_task(used(shelf, other, None, background=True))
        await asyncio.sleep(0.05)
        assert not line.done() and not other.uses
        await used(shelf, box)
        assert box.loaded
        await line

    asyncio.run(main())


def test_the_idle_are_unloaded() -> None:
    async def main() -> None:
        idle, busy, pinned = Box("a"), Box("b"), Box("p", pinned=True)
        shelf = on_shelf(idle, busy, pinned, most=None, idle=0.05)
        shelf.load_now([idle, busy, pinned])
        async with shelf.use(busy, seconds=1):
            await shelf.unload_idle()
            assert idle.loaded
            await asyncio.sleep(0.1)
            await shelf.unload_idle()
        assert (idle.loaded, busy.loaded, pinned.loaded) == (False, True, True)

    asyncio.run(main())


@pytest.mark.parametrize("pinned", [False, True])
def test_what_can_never_fit_is_refused_at_the_start(pinned: bool) -> None:
    models = [Box("small", bytes=2**20, pinned=pinned), Box("large", bytes=2**31 if not pinned else 2**30)]
    with pytest.raises(OwnlmError, match=r"large takes .* GiB of memory"):
        on_shelf(*models, most=2**30)
    with pytest.raises(OwnlmError, match="a, b take"):
        on_shelf(a := Box("a"), b := Box("b")).load_now([a, b])


# Below, the real thing.


@pytest.fixture(scope="module")
def folder(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models that write, an adapter of the first, one that embeds."""
    folder = tmp_path_factory.mktemp("shelf")
    for name in ("base", "chat"):
        wide_copy(workshop / name, folder / name, context=256)
    decoder = load(folder / "chat", dtype="float32").decoder
    adapter = LoraAdapter.new(decoder, LoraConfig(rank=2, alpha=64.0))
    for pair in adapter.each():
        torch.nn.init.normal_(pair.b_Or, std=0.5, generator=torch.Generator().manual_seed(1))
    (folder / "law").mkdir()
    adapter.save(folder / "law")
    return folder


CONFIG = EngineConfig(max_sequences=2, cache_tokens=512)


def make_service(folder: Path, *, fit: int = 1, **more: Any) -> Service:
    """`fit`: so many of the two models that write fit."""
    hosted = {
        name: Hosted(
            name,
            read_outline(folder / name, engine=CONFIG, cache_room=1),
            adapters={"law": folder / "law"} if name == "chat" else {},
        )
        for name in ("chat", "base")
    }
    embedders = {"embedder": HostedEmbedder("embedder", read_embedder_outline(BERT / "embedder"))}
    most = sum(sorted((one.bytes for one in hosted.values()), reverse=True)[:fit])
    return Service(hosted=hosted, embedders=embedders, room=Room(most_bytes=most), **more)


@pytest.fixture
def service(folder: Path) -> Service:
    return make_service(folder)


@pytest.fixture
def server(service: Service) -> Iterator[Server]:
    with serving(make_app(service)) as server:
        yield server


def loaded(service: Service) -> list[str]:
    return [one.name for one in service.everything if one.loaded]


def chat(server: Server, model: str = "chat", **more: Any) -> Any:
    return server.post(
        "/v1/chat/completions", {"model": model, "messages": HELLO, "max_tokens": 4, "temperature": 0, **more}
    )


def complete(server: Server, model: str, **more: Any) -> Any:
    return server.post("/v1/completions", {"model": model, "prompt": "The", "max_tokens": 4, "temperature": 0, **more})


def test_probes_and_lists_wake_nothing(server: Server, service: Service) -> None:
    for path in ("/live", "/ready", "/health", "/metrics", "/tokenizer_info?model=chat", "/v1/models/chat:law"):
        assert server.get(path).status == 200, path
    listed = {one["id"]: one for one in server.get("/v1/models").json()["data"]}
    assert [*listed] == ["chat", "chat:law", "base", "embedder"]
    can = listed["chat"]["capabilities"]
    assert not can["loaded"] and can["context"] == listed["chat"]["max_model_len"] == 256 and can["dimensions"]
    ids = server.post("/tokenize", {"model": "chat", "prompt": "The cat"}).json()["tokens"]
    assert server.post("/detokenize", {"model": "chat", "tokens": ids}).json()["prompt"] == "The cat"
    assert server.post("/apply-template", {"model": "chat", "messages": HELLO}).status == 200
    assert server.post("/v1/messages/count_tokens", {"model": "chat", "messages": HELLO}).json()["input_tokens"]
    # Nor does what is refused.
    assert chat(server, temperature=-1).status == 400 and chat(server, "nobody").status == 404
    assert loaded(service) == []


def test_models_come_and_go(server: Server, service: Service, folder: Path) -> None:
    first = chat(server).json()["choices"][0]["message"]
    assert loaded(service) == ["chat"] and server.get("/v1/models/chat").json()["capabilities"]["loaded"]
    hosted = service.hosted["chat"]
    decoder, cache = weakref.ref(hosted.model.decoder), weakref.ref(hosted.engine.runner.cache)
    thread = hosted._thread._thread  # type: ignore[union-attr]
    # As `ownlm serve` has it: what was made at the start is kept from the collector.
    gc.freeze()
    try:
        assert complete(server, "base").status == 200
    finally:
        gc.unfreeze()
    assert loaded(service) == ["base"]
    assert decoder() is None and cache() is None and not thread.is_alive()
    assert server.get("/ready").status == 200
    assert chat(server).json()["choices"][0]["message"] == first
    adapted = load(folder / "chat", dtype="auto", engine=CONFIG)
    plain = adapted.generate("The", max_tokens=4, temperature=0).text
    adapted.use_adapter(folder / "law")
    wanted = adapted.generate("The", max_tokens=4, temperature=0).text
    assert complete(server, "chat:law").json()["choices"][0]["text"] == wanted != plain
    assert server.post("/v1/embeddings", {"model": "embedder", "input": "The cat"}).status == 200
    told = server.get("/metrics").body.decode()
    assert 'ownlm_model_load_seconds_count{model_name="chat"} 2.0' in told
    assert 'ownlm_model_unloads_total{model_name="base",reason="memory"} 1.0' in told
    # What was counted before it was unloaded is still counted.
    assert (
        'ownlm_model_loaded{model_name="base"} 0.0' in told and 'prefix_cache_queries_total{model_name="base"}' in told
    )


def test_a_busy_model_is_never_unloaded(server: Server, service: Service) -> None:
    slow = {"model": "base", "prompt": "The", "max_tokens": 200, "ignore_eos": True, "stream": True}
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as stream:
        stream.request("POST", "/v1/completions", json.dumps(slow), {"content-type": "application/json"})
        answer = stream.getresponse()
        answer.readline()
        refused = chat(server)
        rest = answer.read()
    assert b"[DONE]" in rest and b'"error"' not in rest
    error = refused.json()["error"]
    assert (refused.status, error["code"]) == (503, NO_ROOM) and int(refused.headers["retry-after"]) >= 1
    assert "of memory" in error["message"]
    assert chat(server).status == 200 and loaded(service) == ["chat"]


def test_files_that_are_gone_are_a_503_until_they_are_back(folder: Path, tmp_path: Path) -> None:
    for name in ("chat", "base", "law"):
        shutil.copytree(folder / name, tmp_path / name)
    service = make_service(tmp_path)
    with serving(make_app(service)) as server:
        weights = tmp_path / "base" / "model.safetensors"
        weights.rename(tmp_path / "aside")
        failed = complete(server, "base")
        assert (failed.status, failed.json()["error"]["code"]) == (503, LOAD_FAILED) and "/" not in failed.body.decode()
        assert chat(server).status == 200
        (tmp_path / "aside").rename(weights)
        assert complete(server, "base").status == 200


def test_a_batch_has_its_model_loaded_and_loses_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("_LOOKS", 0.01), ("_SETTLED", 0.05), ("_KEEPS_OFF", 0.3)):
        monkeypatch.setattr(module, name, seconds)
    store = Store(tmp_path / "data")
    service = make_service(folder, files=Files(store, Limits()), batches=Batches(store))
    lines = [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/completions",
            "body": {"model": "base", "prompt": "The", "max_tokens": 20, "ignore_eos": True},
        }
        for number in range(12)
    ]
    written = "\n".join(json.dumps(line) for line in lines)
    mark = "----x"
    form = (
        f'--{mark}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{mark}\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{written}\r\n'
        f"--{mark}--\r\n"
    )
    with serving(make_app(service)) as server:
        made = server.ask(
            "POST", "/v1/files", form.encode(), headers={"content-type": f"multipart/form-data; boundary={mark}"}
        )
        assert made.status == 200, made.body
        asked = {"input_file_id": made.json()["id"], "endpoint": "/v1/completions", "completion_window": "24h"}
        batch = server.post("/v1/batches", asked).json()["id"]
        end = time.monotonic() + 30
        statuses = set()
        while (state := server.get(f"/v1/batches/{batch}").json())["status"] != "completed":
            assert time.monotonic() < end, state
            statuses.add(chat(server).status)
            time.sleep(0.2)
        assert state["request_counts"] == {"total": 12, "completed": 12, "failed": 0}
        assert statuses <= {200, 503}


def test_the_command_looks_at_all_models_before_it_loads_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [str(folder / "chat"), f"other={folder / 'base'}"]
    found = find_models(places, [f"law={folder / 'law'}"], Limits(), memory="1g", pinned=["other"])
    chat, other = found.hosted.values()
    assert found.most_bytes == 2**30 and chat.adapters == {"law": folder / "law"} and other.pinned
    assert [one.name for one in found.to_load("first")] == [chat.name, "other"]
    assert not chat.loaded and chat.bytes <= 2**30
    monkeypatch.setattr("ownlm.cli.serve_models.free_bytes", lambda device: 10**9)
    assert find_models(places, [], Limits()).most_bytes == 8 * 10**8
    assert find_models(places[:1], [], Limits()).most_bytes is None
    for wrong, more in (
        ([*places, str(folder / "nothing")], {}),
        (places, {"pinned": ["nobody"]}),
        (places, {"memory": "much"}),
        (places, {"adapters": [f"x={folder / 'base'}"]}),
    ):
        with pytest.raises(OwnlmError):
            find_models(wrong, **{"adapters": [], "limits": Limits(), **more})
