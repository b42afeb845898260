"""/v1/chat/completions: whole and streamed answers, tools, logprobs, and what is refused by name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.engine.grammar import GrammarCompiler
from ownlm.opened import load
from ownlm.server.app import make_app
from ownlm.server.asking import ToolChoice
from ownlm.server.hosted import Hosted
from ownlm.server.service import Service
from serving import Server, serving, wide_copy

HELLO = [{"role": "user", "content": "Who are you?"}]


@pytest.fixture(scope="module")
def server(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    hosted = {name: Hosted(name, load(wide_copy(workshop / name, folder / name))) for name in ("chat", "base")}
    with serving(make_app(Service(hosted=hosted))) as server:
        yield server


def chat(server: Server, **more: Any) -> Any:
    body = {"model": "chat", "messages": HELLO, "max_tokens": 12, "temperature": 0, **more}
    return server.post("/v1/chat/completions", body)


def test_an_answer_is_the_models_own(server: Server, workshop: Path) -> None:
    found = chat(server).json()
    answer = load(workshop / "chat").chat(HELLO, max_tokens=12, temperature=0)
    choice = found["choices"][0]
    assert choice["message"]["content"] == answer.text and choice["finish_reason"] == answer.finish_reason
    assert found["usage"]["completion_tokens"] == len(answer.token_ids)
    assert found["object"] == "chat.completion" and found["id"].startswith("chatcmpl-")


def test_a_prompt_that_is_not_found_computed_is_explained(server: Server) -> None:
    for said, before in (("Monday", None), ("Friday", "Monday")):
        messages = [{"role": "user", "content": f"It is {said}. Who are you?"}]
        for stream in (False, True):
            asked = {"messages": messages, "explain_cache": True, "cache_salt": "explained"}
            more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
            answer = chat(server, **asked, **more)
            usage = (answer.events()[-1] if stream else answer.json())["usage"]
            told = usage["prompt_tokens_details"]["first_difference"]
            if stream:
                assert told == {"same_tokens": usage["prompt_tokens"], "token": None, "token_before": None}
            elif before is None:
                assert told is None
            else:
                assert told["token"] == "F" and told["token_before"] == "M"
    assert "first_difference" not in chat(server).json()["usage"]["prompt_tokens_details"]


def test_a_stream_says_the_same_in_order(server: Server) -> None:
    whole = chat(server).json()["choices"][0]
    answer = chat(server, stream=True, stream_options={"include_usage": True})
    assert answer.headers["content-type"].startswith("text/event-stream") and answer.body.endswith(b"data: [DONE]\n\n")
    chunks = answer.events()
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert sum("role" in chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]) == 1
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
    assert text == whole["message"]["content"]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] > 0
    assert chunks[-2]["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": whole["finish_reason"],
    }
    assert len({chunk["id"] for chunk in chunks}) == 1 and all(chunk["usage"] is None for chunk in chunks[:-1])


def test_a_named_tool_constrains_what_is_written(server: Server) -> None:
    parameters = {
        "type": "object",
        "properties": {"city": {"enum": ["Rome", "Bern"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["city", "days"],
        "additionalProperties": False,
    }
    tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]
    named = {"type": "function", "function": {"name": "weather"}}
    for choice in (named, "required"):
        answer = chat(server, tools=tools, tool_choice=choice, max_tokens=60)
        assert answer.status == 200, answer.body
        found = answer.json()["choices"][0]
        assert found["finish_reason"] == "tool_calls" and found["message"]["content"] is None
        call = found["message"]["tool_calls"][0]
        arguments = json.loads(call["function"]["arguments"])
        assert call["function"]["name"] == "weather" and arguments["city"] in ("Rome", "Bern")
        events = chat(server, tools=tools, tool_choice=choice, max_tokens=60, stream=True).events()
        deltas = [one for event in events for one in event["choices"][0]["delta"].get("tool_calls", [])]
        assert [("id" in delta, "name" in delta["function"]) for delta in deltas].count((True, True)) == 1
        assert "".join(delta["function"]["arguments"] for delta in deltas) == call["function"]["arguments"]
        assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_strict_function_is_held_to_its_schema_where_it_is_called_freely(server: Server, workshop: Path) -> None:
    cities = {"type": "object", "properties": {"city": {"enum": ["Rome"]}}, "required": ["city"]}
    functions = [
        {"name": "weather", "parameters": cities | {"additionalProperties": False}, "strict": True},
        {"name": "other", "parameters": cities},
    ]
    tools = [{"type": "function", "function": function} for function in functions]
    for more in ({}, {"stream": True}, {"parallel_tool_calls": False}, {"response_format": {"type": "json_object"}}):
        assert chat(server, tools=tools, **more).status == 200
    model = load(workshop / "chat")
    assert ToolChoice(tools=tools[1:]).held(model) is None and ToolChoice(tools=tools, forced=True).held(model) is None
    grammar = ToolChoice(tools=tools).held(model)
    assert grammar is not None
    tokenizer = model.tokenizer
    compiler = GrammarCompiler(tokenizer, tokenizer.vocab_size, tokenizer.end_ids)

    def allowed(text: str) -> bool:
        matcher = compiler.start(grammar)
        for id in tokenizer.encode(text):
            logits_V = torch.zeros(tokenizer.vocab_size)
            matcher.mask(logits_V)
            if logits_V[id] != 0:
                return False
            matcher.accept(id)
        logits_V = torch.zeros(tokenizer.vocab_size)
        matcher.mask(logits_V)
        return bool((logits_V[list(tokenizer.end_ids)] == 0).any())

    right = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    for text in (
        "A <tool, é\nand so on.",
        right,
        f"I look.\n{right} {right}\nThere.",
        right.replace("weather", "other"),
    ):
        assert allowed(text), text
    assert allowed(right.replace("weather", "other").replace("Rome", "Bern"))
    for text in (right.replace("Rome", "Bern"), f"Hm. {right.replace('weather', 'none')}", right[:-1], "<tool_call>no"):
        assert not allowed(text), text


def test_a_schema_is_kept_to(server: Server) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    found = chat(server, response_format=asked, max_tokens=40).json()["choices"][0]
    assert json.loads(found["message"]["content"])["ok"] in (True, False)


def test_logprobs_spell_the_text(server: Server) -> None:
    # Each computes its prompt anew: what is found computed may differ by the last bits.
    found = chat(server, logprobs=True, top_logprobs=2, cache_salt="whole").json()["choices"][0]
    entries = found["logprobs"]["content"]
    spelled = b"".join(bytes(entry["bytes"]) for entry in entries)
    assert found["message"]["content"].encode() in spelled
    assert all(len(entry["top_logprobs"]) == 2 and entry["logprob"] <= 0 for entry in entries)
    streamed = chat(server, logprobs=True, top_logprobs=2, stream=True, cache_salt="streamed").events()
    parts = [one["choices"][0]["logprobs"] for one in streamed if one["choices"][0]["logprobs"]]
    assert [entry for part in parts for entry in part["content"]] == entries


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"temperature": -1}, 400, "temperature"),
        ({"temperature": "1"}, 400, "temperature"),
        ({"temperature": True}, 400, "temperature"),
        ({"n": 2**63}, 400, None),
        ({"nonsense": 1}, 400, "nonsense"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, 400, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages[0].content"),
        ({"tools": []}, 400, "tools"),
        ({"tool_choice": "required"}, 400, "tool_choice"),
        ({"top_logprobs": 2}, 400, "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, 400, "stream_options"),
        ({"response_format": {"type": "xml"}}, 400, "response_format.type"),
        ({"model": "none"}, 404, "model"),
        ({"model": "base"}, 400, "model"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"messages": [{"role": "user", "content": "cat " * 5000}]}, 400, "messages"),
    ],
)
def test_what_is_wrong_is_named(server: Server, change: dict[str, Any], status: int, param: str | None) -> None:
    answer = chat(server, **change)
    assert answer.status == status, answer.body
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error" and error["message"]
    if param is not None:
        assert error["param"] == param
    assert chat(server).status == 200


def test_bodies_that_are_none(server: Server) -> None:
    for body in (b"", b"{", b"[" * 100_000, b'{"model": "\xff"}', b'{"a": ' * 5000, b"9" * 10_000, b'"\\ud800"'):
        answer = server.post("/v1/chat/completions", body)
        assert answer.status == 400 and answer.json()["error"]["type"] == "invalid_request_error", body[:20]
    assert server.get("/v1/nowhere").status == 404 and server.get("/v1/chat/completions").status == 405
    assert chat(server).status == 200
