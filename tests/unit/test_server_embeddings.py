"""/v1/embeddings and /v1/rerank, by models that write, embedding models and cross-encoders; and what is refused."""

import base64
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.cli.serve_models import find_models
from ownlm.engine import EngineConfig
from ownlm.errors import OwnlmError
from ownlm.opened import load, load_embedder
from ownlm.server.app import make_app
from ownlm.server.hosted import Hosted
from ownlm.server.hosted_embedder import HostedEmbedder
from ownlm.server.limits import Limits
from ownlm.server.service import Service
from ownlm.tokenizer.frame import Framed
from serving import Server, serving, wide_copy

BERT = Path(__file__).parents[1] / "parity" / "references" / "bert"
TEXTS = ["The cat sat on a mat.", "Dogs ran", "The cat"]


@pytest.fixture(scope="module")
def service(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Service:
    folder = tmp_path_factory.mktemp("embedded")
    model = load(
        wide_copy(workshop / "base", folder / "base"),
        dtype="float32",
        engine=EngineConfig(max_sequences=4, step_tokens=32, cache_tokens=4096),
    )
    embedders = {name: load_embedder(BERT / name) for name in ("embedder", "cross_encoder")}
    cut = with_shorter_vectors(folder / "cut")
    hosted = {name: HostedEmbedder(name, one) for name, one in {**embedders, "cut": load_embedder(cut)}.items()}
    return Service(hosted={"base": Hosted("base", model)}, embedders=hosted, limits=Limits(inputs=300))


def with_shorter_vectors(folder: Path) -> Path:
    shutil.copytree(BERT / "embedder", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"matryoshka_dimensions": [4, 8]}))
    return folder


@pytest.fixture(scope="module")
def server(service: Service) -> Iterator[Server]:
    with serving(make_app(service)) as server:
        yield server


def embed(server: Server, model: str, given: Any, *, timeout: float = 120, **more: Any) -> Any:
    return server.post("/v1/embeddings", {"model": model, "input": given, **more}, timeout=timeout)


def vectors(answer: Any) -> torch.Tensor:
    assert answer.status == 200, answer.body
    data = answer.json()["data"]
    assert [entry["index"] for entry in data] == list(range(len(data)))
    return torch.tensor([entry["embedding"] for entry in data])


def test_vectors_are_the_models_own_in_order(server: Server, service: Service) -> None:
    model = service.hosted["base"].model
    found = embed(server, "base", TEXTS)
    with torch.inference_mode():
        states = [model.decoder.hidden(torch.tensor([model.tokenizer.prompt_ids(text)]))[0] for text in TEXTS]
    expected = torch.stack([torch.nn.functional.normalize(one_TE.mean(0), dim=0) for one_TE in states])
    assert float((vectors(found) - expected).abs().max()) < 1e-5
    tokens = sum(map(len, states))
    assert found.json()["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    embedder = service.embedders["embedder"].embedder
    assert float((vectors(embed(server, "embedder", TEXTS)) - embedder.embed(TEXTS)).abs().max()) < 1e-5


@pytest.mark.parametrize("model", ["base", "embedder"])
def test_ids_and_many_texts(server: Server, service: Service, model: str) -> None:
    many = [f"The cat {'sat ' * (place % 9)}" for place in range(150)]
    together = vectors(embed(server, model, many))
    for place in (0, 8, 149):
        assert float((vectors(embed(server, model, many[place]))[0] - together[place]).abs().max()) < 1e-5
    if model == "base":
        ids = service.hosted["base"].model.tokenizer.prompt_ids(many[1])
    else:
        ids = service.embedders[model].embedder.framed(many[1]).ids
    for given in (ids, [ids]):
        assert float((vectors(embed(server, model, given))[0] - together[1]).abs().max()) < 1e-5


@pytest.mark.parametrize("model", ["base", "embedder"])
def test_base64_is_little_endian_float32(server: Server, model: str) -> None:
    plain = vectors(embed(server, model, TEXTS))
    encoded = embed(server, model, TEXTS, encoding_format="base64", user="anna").json()["data"]
    raw = b"".join(base64.b64decode(entry["embedding"]) for entry in encoded)
    assert torch.equal(torch.frombuffer(bytearray(raw), dtype=torch.float32).view_as(plain), plain)


def test_only_a_model_that_was_made_for_it_is_cut(server: Server) -> None:
    whole, short = (vectors(embed(server, "cut", TEXTS, **more)) for more in ({}, {"dimensions": 8}))
    assert torch.allclose(short, torch.nn.functional.normalize(whole[:, :8], dim=-1), atol=1e-6)
    for model, dimensions in (("cut", 5), ("cut", 0), ("base", 8), ("embedder", 16)):
        answer = embed(server, model, TEXTS, dimensions=dimensions)
        assert answer.status == 400 and answer.json()["error"]["param"] == "dimensions"


@pytest.mark.parametrize("model", ["base", "embedder"])
@pytest.mark.parametrize(
    "given",
    [
        *("", [], [""], ["a", ""], [[]], [1, "a"], ["a", [1]], [-1], [10**9], [[1], [2**70]], [True], None, {"a": 1}),
        ["x"] * 301,
    ],
    ids=lambda given: str(given)[:20],
)
def test_what_is_no_input_is_refused(server: Server, model: str, given: Any) -> None:
    answer = embed(server, model, given)
    assert answer.status == 400 and answer.json()["error"]["type"] == "invalid_request_error", answer.body
    assert len(answer.body) < 2000


@pytest.mark.parametrize(("model", "words"), [("base", 2000), ("embedder", 60)])
def test_too_long_is_refused_or_cut(server: Server, model: str, words: int) -> None:
    answer = embed(server, model, ["short", "cat " * words])
    error = answer.json()["error"]
    assert answer.status == 400 and error["code"] == "context_length_exceeded" and error["param"] == "input[1]"
    assert vectors(embed(server, model, ["short", "cat " * words], truncate=True)).shape[0] == 2
    ids = [5] * words
    assert embed(server, model, ids).json()["error"]["code"] == "context_length_exceeded"


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < end, "it never happens"
        time.sleep(0.005)


def test_a_stream_flows_beside_a_long_job(server: Server, service: Service) -> None:
    done: list[int] = []

    def job() -> None:
        done.append(embed(server, "base", ["The cat sat on a mat. " * 9] * 160).status)

    thread = threading.Thread(target=job)
    thread.start()
    until(lambda: service.hosted["base"].stats().running > 0)
    body = {"model": "base", "prompt": "The cat", "max_tokens": 8, "stream": True, "ignore_eos": True}
    answer = server.post("/v1/completions", body)
    assert len(answer.events()) >= 8 and not done, "the answer did not wait for the job"
    thread.join(120)
    assert done == [200]


def test_a_client_that_leaves_frees_its_place(
    server: Server, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = service.embedders["embedder"].embedder
    plain = embedder.vectors
    pieces: list[int] = []

    def slowly(prompts: Sequence[Framed]) -> torch.Tensor:
        pieces.append(len(prompts))
        time.sleep(0.2)
        return plain(prompts)

    monkeypatch.setattr(embedder, "vectors", slowly)
    for model, text in (("base", "The cat sat on a mat. " * 9), ("embedder", "the cat")):
        with pytest.raises(TimeoutError):
            embed(server, model, [text] * 300, timeout=0.1)
    until(lambda: service.idle and service.hosted["base"].engine.idle)
    assert len(pieces) < 3, "what nobody waits for is not begun"


def test_who_waits_too_long_is_told(service: Service, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "limits", Limits(request_seconds=0.05))
    answer = embed(server, "base", ["The cat sat on a mat. " * 9] * 300)
    assert answer.status in (503, 504) and answer.json()["error"]["code"] == "deadline_exceeded"
    until(lambda: service.idle and service.hosted["base"].engine.idle)


def rerank(server: Server, model: str, **more: Any) -> Any:
    return server.post("/v1/rerank", {"model": model, "query": "Where is the cat?", **more})


@pytest.mark.parametrize("model", ["base", "embedder", "cross_encoder"])
def test_the_best_document_comes_first(server: Server, service: Service, model: str) -> None:
    documents = ["seven dogs ran", {"text": "the cat is on the mat"}, "x"]
    found = rerank(server, model, documents=documents, return_documents=True, top_n=99).json()
    scores = [result["relevance_score"] for result in found["results"]]
    assert scores == sorted(scores, reverse=True) and len(scores) == 3 and found["usage"]["total_tokens"] > 10
    texts = ["seven dogs ran", "the cat is on the mat", "x"]
    assert all(result["document"]["text"] == texts[result["index"]] for result in found["results"])
    if model != "base":
        own = service.embedders[model].embedder.rank("Where is the cat?", texts)
        assert [own[result["index"]] for result in found["results"]] == pytest.approx(scores, abs=1e-5)
    best = rerank(server, model, documents=documents, top_n=1).json()["results"]
    assert best == [{"index": found["results"][0]["index"], "relevance_score": pytest.approx(scores[0], abs=1e-6)}]
    asked = {"model": model, "query": "Where is the cat?", "texts": texts, "return_text": True}
    listed = server.post("/rerank", asked).json()
    assert [(one["index"], one["text"]) for one in listed] == [
        (result["index"], result["document"]["text"]) for result in found["results"]
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"documents": []},
        {"documents": None},
        {"documents": "one"},
        {"documents": [1]},
        {"documents": [None]},
        {"documents": [{"title": "x"}]},
        {"documents": ["a", ""]},
        {"documents": ["x"] * 301},
        {"texts": ["a"]},
        {"documents": None, "texts": []},
        {"query": ""},
        {"query": None},
        {"query": "cat " * 3000},
        {"documents": ["cat " * 3000]},
        {"top_n": 0},
        {"top_n": -(10**30)},
        {"top_n": "2"},
        {"unknown": 1},
        {"model": None},
    ],
    ids=lambda change: json.dumps(change)[:40],
)
@pytest.mark.parametrize("model", ["base", "embedder", "cross_encoder"])
def test_what_cannot_be_ranked_is_refused(server: Server, model: str, change: dict[str, Any]) -> None:
    answer = rerank(server, **{"model": model, "documents": ["a", "b"], **change})
    assert answer.status == 400 and len(answer.body) < 2000, answer.body
    assert rerank(server, model, documents=["a" * 20], truncate=True).status == 200


def test_a_model_is_asked_for_what_it_can_do(server: Server) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    chat = server.post("/v1/chat/completions", {"model": "embedder", "messages": messages})
    assert chat.status == 400 and "/v1/embeddings and /v1/rerank" in chat.json()["error"]["message"]
    assert server.post("/tokenize", {"model": "embedder", "prompt": "x"}).status == 400
    answer = embed(server, "cross_encoder", "x")
    assert answer.status == 400 and "/v1/rerank" in answer.json()["error"]["message"]
    assert embed(server, "nothing", "x").status == 404
    listed = {one["id"]: one["capabilities"] for one in server.get("/v1/models").json()["data"]}
    assert "mean" in listed["base"]["embeddings"] and "not made" in listed["base"]["embeddings"]
    assert listed["embedder"]["embeddings"].startswith("made for them") and not listed["embedder"]["chat"]
    assert listed["cut"]["cut_to"] == [4, 8, 16] and "cross-encoder" in listed["cross_encoder"]["rerank"]
    assert server.get("/v1/models/embedder").json()["max_model_len"] == 48
    assert server.get("/ready").status == 200 and b"ownlm_prompt_tokens" in server.get("/metrics").body


def test_the_command_opens_both_kinds(workshop: Path) -> None:
    named = (f"writes={workshop / 'base'}", str(BERT / "embedder"))
    found = find_models(named, (), Limits(), max_sequences=2, cache_tokens=512)
    assert [*found.hosted] == ["writes"] and [*found.embedders] == ["embedder"]
    with pytest.raises(OwnlmError, match="none is served"):
        find_models(named[1:], ("x=y",), Limits(), max_sequences=2, cache_tokens=512)
