"""Bodies that nobody should send: never a 500, never a hang, and the next request is answered right."""

import copy
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ownlm.engine import EngineConfig
from ownlm.opened import load
from ownlm.server.app import make_app
from ownlm.server.hosted import Hosted
from ownlm.server.limits import Limits
from ownlm.server.service import Service
from serving import Server, serving, wide_copy

# OWNLM_MUTATED_BODIES=10000 for the long run.
BODIES = int(os.environ.get("OWNLM_MUTATED_BODIES", "600"))
RIGHT = {"model": "chat", "prompt": "The cat", "max_tokens": 3, "temperature": 0}
HELLO = [{"role": "user", "content": "Who are you?"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "f", "description": "x", "parameters": SCHEMA}}
SEEDS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {**RIGHT, "n": 2, "logprobs": 1, "echo": True, "stop": ["a"], "logit_bias": {"5": 1.5}}),
    ("/v1/completions", {**RIGHT, "prompt": ["a", "b"], "structured_outputs": {"regex": "[ab]+"}}),
    (
        "/v1/chat/completions",
        {"model": "chat", "messages": HELLO, "max_tokens": 3, "logprobs": True, "top_logprobs": 2},
    ),
    (
        "/v1/chat/completions",
        {
            "model": "chat",
            "messages": [
                *HELLO,
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "3"}]},
            ],
            "tools": [TOOL],
            "tool_choice": "required",
            "max_completion_tokens": 9,
        },
    ),
    (
        "/v1/chat/completions",
        {
            "model": "chat",
            "messages": HELLO,
            "max_tokens": 9,
            "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA, "strict": True}},
        },
    ),
    ("/tokenize", {"model": "chat", "messages": HELLO, "tools": [TOOL]}),
    ("/detokenize", {"tokens": [1, 2, 3]}),
    ("/apply-template", {"messages": HELLO, "chat_template_kwargs": {"enable_thinking": False}}),
]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63), 2**200, 1e308, -1e308, float("nan"), float("inf")),
    *("", " ", "x", "\x00", "\ud800", "<|im_end|>", "9" * 5000, "é" * 300, "../../etc/passwd", "a\nb"),
    *([], {}, [[]], [None], {"": ""}, [1, "a"], {"type": "object"}, {"$ref": "#"}, [[[[[[[[]]]]]]]]),
]


@pytest.fixture(scope="module")
def server(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = wide_copy(workshop / "chat", tmp_path_factory.mktemp("hostile") / "chat", context=192)
    hosted = Hosted("chat", load(folder, engine=EngineConfig(max_sequences=4, cache_tokens=8_000)))
    with serving(make_app(Service(hosted={"chat": hosted}, limits=Limits(request_tokens=2_000)))) as server:
        yield server


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in entries:
        yield from places(below, (*path, key))


def mutated(body: Any, chance: random.Random) -> Any:
    """A copy with one to three places changed, dropped, doubled or named otherwise."""
    body = copy.deepcopy(body)
    for _ in range(chance.randint(1, 3)):
        path = chance.choice([path for path in places(body) if path] or [()])
        if not path:
            return copy.deepcopy(chance.choice(VALUES))
        parent = body
        for key in path[:-1]:
            parent = parent[key]
        match chance.randrange(4):
            case 0 if isinstance(parent, dict):
                del parent[path[-1]]
            case 1 if isinstance(parent, dict):
                parent[chance.choice(["nonsense", "stream", "n", "model", "tools", "__class__"])] = chance.choice(
                    VALUES
                )
            case 2 if isinstance(parent, list):
                parent += [copy.deepcopy(parent[path[-1]])] * chance.choice([1, 50])
            case _:
                parent[path[-1]] = copy.deepcopy(chance.choice(VALUES))
    return body


def written(body: Any, chance: random.Random) -> bytes:
    raw = json.dumps(body).encode()
    if chance.random() < 0.1 and raw:
        place = chance.randrange(len(raw))
        raw = raw[:place] + bytes([chance.randrange(256)]) + raw[place + chance.randrange(3) :]
    return raw


def test_mutated_bodies_break_nothing(server: Server) -> None:
    expected = server.post("/v1/completions", RIGHT).json()["choices"]
    chance = random.Random(7)
    for number in range(BODIES):
        path, seed = chance.choice(SEEDS)
        raw = written(mutated(seed, chance), chance)
        try:
            answer = server.post(path, raw)
        except TimeoutError:
            pytest.fail(f"no answer to {path} {raw!r}")
        assert answer.status in (200, 400, 404, 413), (path, raw, answer.status, answer.body)
        if answer.status != 200:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
            assert len(answer.body) < 2_000 and b"/work" not in answer.body and b"Traceback" not in answer.body
        if number % 100 == 0:
            assert server.post("/v1/completions", RIGHT).json()["choices"] == expected
    assert server.post("/v1/completions", RIGHT).json()["choices"] == expected


def deep(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


BOMBS: list[dict[str, Any]] = [
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    {"$ref": "https://example.org/schema.json"},
    {"enum": [f"word{number}" for number in range(50_000)]},
    {"type": "string", "pattern": "(a+)+$"},
    {"type": "string", "pattern": "(" * 5000},
    {"type": "integer", "multipleOf": 9_999_991},
    {"type": "array", "minItems": 10**9},
    {"type": "nonsense"},
    {"allOf": [{"type": "string", "minLength": number} for number in range(500)]},
    deep(60),
]


@pytest.mark.parametrize("schema", BOMBS)
def test_schemas_that_would_cost_much_hold_nobody_up(server: Server, schema: dict[str, Any]) -> None:
    asked = {"type": "json_schema", "json_schema": {"name": "bomb", "schema": schema}}
    body = {"model": "chat", "messages": HELLO, "max_tokens": 4, "response_format": asked}
    began = time.monotonic()
    answer = server.post("/v1/chat/completions", body)
    assert answer.status in (200, 400), answer.body
    assert time.monotonic() - began < 20
    assert server.post("/v1/completions", RIGHT).status == 200


def test_a_client_names_no_template_of_its_own(server: Server) -> None:
    for more in ({"chat_template": "{{ x }}"}, {"chat_template_kwargs": {"messages": []}}, {"chat_template_kwargs": 3}):
        answer = server.post("/v1/chat/completions", {"model": "chat", "messages": HELLO, **more})
        assert answer.status == 400 and "chat_template" in answer.json()["error"]["message"]


def test_nothing_that_comes_is_run(server: Server) -> None:
    """No pickle, no eval, no shell, and no address of a client's in what serves."""
    source = Path(__file__).resolve().parents[2] / "src" / "ownlm" / "server"
    text = "\n".join(path.read_text(encoding="utf-8") for path in source.rglob("*.py"))
    for name in ("pickle", "eval(", "exec(", "torch.load", "subprocess", "os.system", "urlopen", "requests.get"):
        assert name not in text.replace("PRAGMA", ""), name
    many = [{"role": "user", "content": "x"}] * 20_000
    assert server.post("/v1/chat/completions", {"model": "chat", "messages": many}).status == 400
    assert server.post("/v1/completions", {**RIGHT, "model": "a\nb" * 1000}).status == 404
