"""/v1/completions: scores of a prompt as lm-eval reads them, many prompts at once, and streams."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ownlm.opened import load
from ownlm.server.app import make_app
from ownlm.server.hosted import Hosted
from ownlm.server.service import Service
from serving import Server, serving


@pytest.fixture(scope="module")
def server(workshop: Path) -> Iterator[Server]:
    with serving(
        make_app(Service(hosted={"base": Hosted("base", load(workshop / "base", dtype="float32"))}))
    ) as server:
        yield server


def complete(server: Server, prompt: Any, **more: Any) -> Any:
    return server.post("/v1/completions", {"model": "base", "prompt": prompt, "temperature": 0, **more})


def test_echo_scores_every_token_of_the_prompt(server: Server, workshop: Path) -> None:
    model = load(workshop / "base", dtype="float32")
    prompts = [model.tokenizer.encode(text) for text in ("The cat sat on a mat", "The dogs ran")]
    found = complete(server, prompts, echo=True, logprobs=1, max_tokens=1).json()
    for prompt, choice in zip(prompts, found["choices"], strict=True):
        logprobs = choice["logprobs"]
        assert len(logprobs["tokens"]) == len(prompt) + 1 and logprobs["token_logprobs"][0] is None
        expected = model.logits(prompt).log_softmax(-1)
        for place in range(1, len(prompt)):
            assert logprobs["token_logprobs"][place] == pytest.approx(
                float(expected[place - 1, prompt[place]]), abs=1e-5
            )
        # lm-eval holds them equal as floats.
        for token, own, top in zip(
            logprobs["tokens"][1:], logprobs["token_logprobs"][1:], logprobs["top_logprobs"][1:], strict=True
        ):
            assert top[token] == own <= max(top.values())
        text = choice["text"]
        offsets = logprobs["text_offset"]
        assert text[: offsets[-1]] == model.tokenizer.decode(prompt) and offsets == sorted(offsets)


def test_choices_are_counted_through(server: Server) -> None:
    found = complete(server, ["The cat", "A red house"], n=2, max_tokens=3, temperature=1, seed=1).json()
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2, 3]
    whole = complete(server, ["The cat", "A red house"], max_tokens=6).json()
    texts = ["", ""]
    for event in complete(server, ["The cat", "A red house"], max_tokens=6, stream=True).events():
        texts[event["choices"][0]["index"]] += event["choices"][0]["text"]
    assert texts == [choice["text"] for choice in whole["choices"]]


def test_nothing_is_drawn_where_nothing_is_asked_for(server: Server) -> None:
    found = complete(server, "The cat sat", echo=True, max_tokens=0, logprobs=0).json()
    assert found["choices"][0]["text"] == "The cat sat" and found["usage"]["completion_tokens"] == 0
    assert len(found["choices"][0]["logprobs"]["tokens"]) == found["usage"]["prompt_tokens"]


@pytest.mark.parametrize(
    "change",
    [
        {"suffix": "x"},
        {"best_of": 3},
        {"max_tokens": 0},
        {"logprobs": 21},
        {"prompt": []},
        {"prompt": [-1]},
        {"prompt": [10**9]},
        {"prompt": [[]]},
        {"prompt": [1, "a"]},
        {"prompt": ""},
    ],
)
def test_what_is_wrong_is_refused(server: Server, change: dict[str, Any]) -> None:
    answer = server.post("/v1/completions", {"model": "base", "prompt": "The cat", **change})
    assert answer.status == 400, answer.body
    assert complete(server, "The cat", max_tokens=1).status == 200


def test_tokens_there_and_back(server: Server, workshop: Path) -> None:
    text = "The cat sat."
    found = server.post("/tokenize", {"content": text}).json()
    assert found["tokens"] == load(workshop / "base").tokenizer.encode(text)
    assert server.post("/detokenize", {"tokens": found["tokens"]}).json()["content"] == text
    info = server.get("/tokenizer_info").json()
    end = {
        name: server.post("/tokenize", {"prompt": info["eos_token"], **more}).json()["tokens"]
        for name, more in (("id", {}), ("text", {"parse_special": False}))
    }
    assert len(end["id"]) == 1 < len(end["text"])
    assert server.post("/detokenize", {"tokens": end["id"]}).json()["prompt"] == info["eos_token"]
    assert info["vocab_size"] > 0
    assert server.get("/v1/models/base").json()["capabilities"]["chat"] is False
    assert b"ownlm_time_to_first_token_seconds_bucket" in server.get("/metrics").body


@pytest.mark.parametrize("id", [-1, 2**31, 2**70])
def test_an_id_that_is_no_tokens_is_refused(server: Server, id: int) -> None:
    answer = complete(server, [1, id], max_tokens=1)
    assert answer.status == 400 and answer.json()["error"]["type"] == "invalid_request_error"
