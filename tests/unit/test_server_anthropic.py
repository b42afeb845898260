"""/v1/messages: blocks, thoughts and calls, whole and in a stream's exact events; what is refused by name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.engine import EngineConfig
from ownlm.opened import Model, load
from ownlm.server.app import make_app
from ownlm.server.dialects.anthropic_messages import to_openai
from ownlm.server.errors import ApiError
from ownlm.server.hosted import Hosted
from ownlm.server.limits import Limits
from ownlm.server.service import Service
from serving import Answer, Server, serving, wide_copy

HELLO = [{"role": "user", "content": "Who are you?"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Bern"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [{"name": "weather", "description": "As it is.", "input_schema": SCHEMA}]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'
THINKS = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% endif %}"""


class Script:
    """What the model says next, whatever it was asked."""

    def __init__(self, model: Model) -> None:
        self._model, self._left = model, [0]
        model.decoder.head = self._head  # type: ignore[method-assign]

    def says(self, text: str) -> None:
        self._left = self._model.tokenizer.encode(text)

    def _head(self, hidden_RE: torch.Tensor) -> torch.Tensor:
        logits_RV = torch.zeros(len(hidden_RE), self._model.decoder.config.vocab_size)
        logits_RV[:, self._left.pop(0) if self._left else self._model.end_ids[0]] = 100.0
        return logits_RV


@pytest.fixture(scope="module")
def thinker(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = wide_copy(workshop / "chat", tmp_path_factory.mktemp("thinker") / "thinker", context=768)
    (folder / "chat_template.jinja").write_text(THINKS)
    return load(folder)


@pytest.fixture(scope="module")
def script(thinker: Model) -> Script:
    return Script(thinker)


@pytest.fixture(scope="module")
def server(workshop: Path, thinker: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    hosted = {
        name: Hosted(name, load(wide_copy(workshop / name, folder / name, context=768))) for name in ("chat", "base")
    }
    hosted["thinker"] = Hosted("thinker", thinker)
    with serving(make_app(Service(hosted=hosted))) as server:
        yield server


def ask(server: Server, **more: Any) -> Answer:
    return server.post("/v1/messages", {"model": "chat", "messages": HELLO, "max_tokens": 12, "temperature": 0, **more})


def from_events(answer: Answer) -> dict[str, Any]:
    """The message that a stream's events make, after their order was checked."""
    names = [line.removeprefix("event: ") for line in answer.body.decode().splitlines() if line.startswith("event: ")]
    events = answer.events()
    assert names == [event["type"] for event in events]
    assert [names[0], *names[-2:]] == ["message_start", "message_delta", "message_stop"]
    message = events[0]["message"]
    assert message["content"] == [] and message["stop_reason"] is None
    inputs: dict[int, str] = {}
    open_block = None
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert open_block is None and event["index"] == len(message["content"])
            open_block = event["index"]
            message["content"].append(event["content_block"])
            continue
        assert event["index"] == open_block
        if event["type"] == "content_block_stop":
            open_block = None
            continue
        delta, block = event["delta"], message["content"][open_block]
        if delta["type"] == "input_json_delta":
            inputs[open_block] = inputs.get(open_block, "") + delta["partial_json"]
            continue
        field = delta["type"].removesuffix("_delta")
        block[field] += delta[field]
    assert open_block is None
    for index, text in inputs.items():
        message["content"][index]["input"] = json.loads(text)
    return {**message, **events[-2]["delta"], "usage": events[-2]["usage"]}


def both(server: Server, **asked: Any) -> dict[str, Any]:
    """Asked whole and as a stream: one message."""
    whole = ask(server, **asked)
    assert whole.status == 200, whole.body
    told, again = whole.json(), from_events(ask(server, **asked, stream=True))
    for message in (told, again):
        assert message.pop("id").startswith("msg_")
        usage = message["usage"]
        usage["input_tokens"] += usage.pop("cache_read_input_tokens")
        for block in message["content"]:
            if block["type"] == "tool_use":
                assert block.pop("id").startswith("toolu_")
    assert told == again
    return told


def test_an_answer_is_the_models_own(server: Server, workshop: Path) -> None:
    message = both(server)
    answer = load(workshop / "chat").chat(HELLO, max_tokens=12, temperature=0)
    assert message["content"] == [{"type": "text", "text": answer.text}]
    assert message["usage"]["output_tokens"] == len(answer.token_ids)
    assert (message["type"], message["role"], message["model"]) == ("message", "assistant", "chat")
    assert message["stop_reason"] == {"stop": "end_turn", "length": "max_tokens"}[answer.finish_reason]
    counted = server.post("/v1/messages/count_tokens", {"model": "chat", "messages": HELLO}).json()
    assert counted == {"input_tokens": message["usage"]["input_tokens"]}


@pytest.mark.parametrize(
    ("text", "asked", "blocks", "ended"),
    [
        ("One two three", {"stop_sequences": ["two", "x"]}, ["One "], ("stop_sequence", "two")),
        ("One two three", {"max_tokens": 2}, ["On"], ("max_tokens", None)),
        ("<think>\nHm.\n</think>\n\nSo.", {}, ["Hm.\n", "So."], ("end_turn", None)),
        (
            "<think>Hm.</think>So.",
            {"thinking": {"type": "adaptive", "display": "omitted"}},
            ["", "So."],
            ("end_turn", None),
        ),
        ("<think>Hm.</think>\n" + CALL, {"tools": TOOLS}, ["Hm.", {"city": "Rome"}], ("tool_use", None)),
        (f"I look. {CALL}\n{CALL}", {"tools": TOOLS}, ["I look.", *[{"city": "Rome"}] * 2], ("tool_use", None)),
        (
            f"{CALL}\n{CALL}",
            {"tools": TOOLS, "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            [{"city": "Rome"}],
            ("tool_use", None),
        ),
        (CALL, {"tools": TOOLS, "tool_choice": {"type": "none"}}, [CALL], ("end_turn", None)),
        # Models write it so too.
        (CALL.replace('{"city": "Rome"}', r'"{\"city\": 1}"'), {"tools": TOOLS}, [{"city": 1}], ("tool_use", None)),
        (CALL.replace('{"city": "Rome"}', "7"), {"tools": TOOLS}, [{"INVALID_JSON": "7"}], ("tool_use", None)),
    ],
)
def test_what_the_model_says_is_told_in_blocks(
    server: Server, script: Script, text: str, asked: dict[str, Any], blocks: list[Any], ended: tuple[str, str | None]
) -> None:
    told = []
    for stream in (False, True):
        script.says(text)
        answer = ask(server, **{"model": "thinker", "max_tokens": 400, "stream": stream, **asked})
        assert answer.status == 200, answer.body
        told.append(from_events(answer) if stream else answer.json())
    for message in told:
        said = [block.get("text", block.get("thinking", block.get("input"))) for block in message["content"]]
        assert said == blocks
        assert (message["stop_reason"], message["stop_sequence"]) == ended
        assert all(block["signature"] for block in message["content"] if block["type"] == "thinking")


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_forced_tool_constrains_what_is_written(server: Server, choice: dict[str, Any]) -> None:
    message = both(server, tools=TOOLS, tool_choice=choice, max_tokens=60)
    assert message["stop_reason"] == "tool_use"
    (block,) = message["content"]
    assert block["name"] == "weather" and block["input"]["city"] in ("Rome", "Bern")


def test_a_form_is_kept_to_and_a_beginning_gone_on_with(server: Server) -> None:
    schema = {**SCHEMA, "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    form = {"format": {"type": "json_schema", "schema": schema}}
    assert "ok" in json.loads(both(server, output_config=form, max_tokens=40)["content"][0]["text"])
    whole = ask(server).json()["content"][0]["text"]
    begun = [*HELLO, {"role": "assistant", "content": [{"type": "text", "text": whole[:7]}]}]
    assert ask(server, messages=begun).json()["content"][0]["text"].startswith(whole[7:12])


def test_the_context_ends_an_answer(server: Server) -> None:
    long = [{"role": "user", "content": "cat " * 350}]
    tokens = server.post("/v1/messages/count_tokens", {"model": "chat", "messages": long}).json()["input_tokens"]
    answer = ask(server, messages=long, max_tokens=5000).json()
    assert answer["stop_reason"] in ("model_context_window_exceeded", "end_turn")
    assert tokens + answer["usage"]["output_tokens"] <= 768


def test_messages_are_read_in_their_order() -> None:
    system = [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=1; cch=4f;"},
        {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
    ]
    messages = [
        {"role": "user", "content": "One"},
        {"role": "user", "content": [{"type": "text", "text": "Two"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
                {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "Sun"}]},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no city", "is_error": True},
                {"type": "text", "text": "And now?"},
            ],
        },
        {"role": "system", "content": "Be kind."},
    ]
    calls = [
        {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}},
        {"id": "toolu_2", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
    ]
    assert to_openai(messages, system) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One\nTwo"},
        {"role": "assistant", "content": "I look.", "reasoning_content": "Hm.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "toolu_1", "name": "weather", "content": "Sun"},
        {"role": "tool", "tool_call_id": "toolu_2", "name": "weather", "content": "Error: no city"},
        {"role": "user", "content": "And now?"},
        {"role": "system", "content": "Be kind."},
    ]


def test_a_conversation_with_tools_is_answered(server: Server) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sun"}
    messages = [*HELLO, {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    for model in ("chat", "thinker"):
        assert ask(server, model=model, messages=messages, tools=TOOLS).status == 200


def image(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "image", **more}]}]}


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"max_tokens": None}, 400, "max_tokens"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"temperature": "1"}, 400, "temperature"),
        ({"temperature": -1}, 400, "temperature"),
        ({"top_k": 1.5}, 400, "top_k"),
        ({"nonsense": 1}, 400, "nonsense is not supported"),
        ({"n": 2}, 400, "n is not supported"),
        ({"stop_sequences": [""]}, 400, "stop_sequences"),
        ({"metadata": {"user": "x"}}, 400, "metadata.user"),
        ({"cache_control": {"type": "for ever"}}, 400, "cache_control"),
        ({"thinking": {"type": "hard"}}, 400, "thinking"),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, 400, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, 400, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, 400, "messages[0].content[0]"),
        (image(source={"type": "base64"}), 400, "block of type 'image' is not supported"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, 400, "type 'document'"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, 400, "content[0].text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]}]},
            400,
            "no tool_use before it has the tool_use_id 'x'",
        ),
        ({"messages": [{"role": "assistant", "content": "I"}]}, 400, "must end with the user's"),
        ({"system": [{"type": "image"}]}, 400, "system[0]"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, 400, "type 'bash_20250124' is not supported"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, 400, "tools[0].name"),
        ({"tools": [{"name": "a"}]}, 400, "tools[0].input_schema"),
        ({"tools": TOOLS * 2}, 400, "two functions called weather"),
        ({"tools": [{**TOOLS[0], "defer_loading": True}]}, 400, "defer_loading"),
        ({"tool_choice": {"type": "any"}}, 400, "needs tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool", "name": "x"}}, 400, "none of tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool"}}, 400, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, 400, "tool_choice"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"type": "x"}}}}, 400, "schema"),
        ({"model": "none"}, 404, "no model"),
        ({"model": "base"}, 400, "never tuned to chat"),
        ({"messages": [{"role": "user", "content": "cat " * 5000}]}, 400, "context is 768"),
    ],
)
def test_what_is_wrong_is_named(server: Server, change: dict[str, Any], status: int, words: str) -> None:
    answer = ask(server, **change, stream=True)
    assert answer.status == status, answer.body
    told = answer.json()
    assert told["type"] == "error" and told["request_id"] == answer.headers["request-id"]
    assert told["error"]["type"] == {400: "invalid_request_error", 404: "not_found_error"}[status]
    assert words in told["error"]["message"]


def test_nothing_nested_is_a_fault_of_ours(server: Server) -> None:
    for depth in (100, 400, 900):
        deep: Any = "x"
        for _ in range(depth):
            deep = {"a": deep}
        call = {"type": "tool_use", "id": "a", "name": "b", "input": deep}
        for change in (
            {"messages": [*HELLO, {"role": "assistant", "content": [call]}, *HELLO]},
            {"tools": [{"name": "a", "input_schema": deep}]},
            {"tools": [{"name": "a", "input_schema": deep}], "tool_choice": {"type": "any"}},
        ):
            for model in ("chat", "thinker"):
                assert ask(server, model=model, **change).status in (200, 400)
    assert ask(server).status == 200


def test_models_are_listed_in_the_dialects_shape(server: Server) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    listed = server.get("/v1/models", headers=headers).json()
    assert listed["has_more"] is False and listed["first_id"] == "chat" and listed["data"][0]["type"] == "model"
    missing = server.get("/v1/models/none", headers=headers)
    assert missing.status == 404 and missing.json()["error"]["type"] == "not_found_error"


def test_a_full_queue_is_overload(workshop: Path) -> None:
    model = load(workshop / "chat", engine=EngineConfig(max_sequences=1))
    limits = Limits(waiting_requests=1)
    hosted = Hosted("chat", model, limits=limits)
    hosted.admission._refuse_when_full = _full  # type: ignore[method-assign]
    with serving(make_app(Service(hosted={"chat": hosted}, limits=limits))) as server:
        answer = ask(server)
        assert answer.status == 529 and int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "overloaded_error" and "x-should-retry" not in answer.headers


def _full(tokens: int) -> None:
    raise ApiError(status=429, message="1 requests wait already", code="queue_full", retry_after=1)
