"""(peers) /v1/messages and count_tokens with Anthropic's own client, unchanged."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("anthropic", reason="announced: anthropic is not installed")

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Rome", "Bern"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="module")
def client(served: Any) -> Iterator[Any]:
    from anthropic import Anthropic

    with Anthropic(base_url=served.server.url, api_key=served.key, max_retries=0) as client:
        yield client


@pytest.fixture
def asked(served: Any) -> dict[str, Any]:
    return {"model": served.model, "max_tokens": 12, "messages": [{"role": "user", "content": "Who are you?"}]}


def test_a_message_and_the_same_as_a_stream(client: Any, asked: dict[str, Any]) -> None:
    asked = asked | {"extra_body": {"temperature": 0}}
    whole = client.messages.create(**asked, system="Be kind.", metadata={"user_id": "anna"})
    assert whole.role == "assistant" and whole.stop_reason in ("end_turn", "max_tokens")
    with client.messages.stream(**asked, system="Be kind.") as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text and final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens > 0
    kinds = [event.type for event in client.messages.create(**asked, stream=True)]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]


def test_tokens_are_counted_as_they_are_read(client: Any, asked: dict[str, Any]) -> None:
    given = {name: asked[name] for name in ("model", "messages")}
    counted = client.messages.count_tokens(**given, tools=[WEATHER]).input_tokens
    usage = client.messages.create(**asked, tools=[WEATHER]).usage
    assert counted == usage.input_tokens + usage.cache_read_input_tokens
    assert client.messages.count_tokens(**given).input_tokens < counted


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
def test_a_tool_is_called_and_answered(client: Any, asked: dict[str, Any], choice: dict[str, Any]) -> None:
    asked = asked | {"max_tokens": 200, "tools": [WEATHER]}
    whole = client.messages.create(**asked, tool_choice=choice)
    (call,) = [block for block in whole.content if block.type == "tool_use"]
    assert whole.stop_reason == "tool_use" and call.input["city"] in ("Rome", "Bern")
    with client.messages.stream(**asked, tool_choice=choice) as stream:
        told = "".join(
            event.delta.partial_json
            for event in stream
            if event.type == "content_block_delta" and event.delta.type == "input_json_delta"
        )
        final = stream.get_final_message()
    assert json.loads(told) == final.content[-1].input
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "Rain."}]}
    back = [*asked["messages"], {"role": "assistant", "content": whole.content}, {"role": "user", "content": [result]}]
    assert client.messages.create(**asked | {"messages": back, "max_tokens": 8}).stop_reason


def test_models_and_errors(client: Any, served: Any, asked: dict[str, Any]) -> None:
    from anthropic import Anthropic, AuthenticationError, BadRequestError, NotFoundError

    assert served.model in [model.id for model in client.models.list()]
    assert client.models.retrieve(served.model).type == "model"
    with pytest.raises(NotFoundError):
        client.messages.create(**asked | {"model": "none"})
    with pytest.raises(BadRequestError, match="teapot"):
        client.messages.create(**asked, extra_body={"teapot": 1})
    with (
        Anthropic(base_url=served.server.url, api_key="own-wrong", max_retries=0) as stranger,
        pytest.raises(AuthenticationError),
    ):
        stranger.models.list()
    with Anthropic(base_url=served.server.url, auth_token=served.key, api_key=None) as bearer:
        assert bearer.messages.create(**asked).id.startswith("msg_")
