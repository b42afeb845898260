"""(peers) Chat, tools, forms, completions and embeddings with OpenAI's own client, unchanged."""

import math
from collections.abc import Iterator
from typing import Any

import pytest

from weather_tool import FUNCTION, Verdict

pytest.importorskip("openai", reason="announced: openai is not installed")

pytestmark = [
    pytest.mark.peers,
    # The client's own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

SAY: list[Any] = [{"role": "user", "content": "Who are you?"}]
WEATHER: dict[str, Any] = {"type": "function", "function": FUNCTION | {"description": "The weather in a city"}}


@pytest.fixture(scope="module")
def client(served: Any) -> Iterator[Any]:
    from openai import OpenAI

    with OpenAI(base_url=served.v1, api_key=served.key, max_retries=0) as client:
        yield client


@pytest.fixture
def asked(served: Any) -> dict[str, Any]:
    return {"model": served.model, "messages": SAY, "max_tokens": 12, "temperature": 0}


def test_a_chat_and_the_same_as_a_stream(client: Any, asked: dict[str, Any]) -> None:
    whole = client.chat.completions.create(**asked, seed=3, user="anna", stop=["\n\n"])
    (choice,) = whole.choices
    assert choice.finish_reason in ("stop", "length") and whole.usage.total_tokens > whole.usage.prompt_tokens
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(**asked, stop=["\n\n"], stream=True, stream_options=options))
    said = [chunk for chunk in chunks if chunk.choices]
    assert said[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in said) == choice.message.content
    assert [one.choices[0].finish_reason for one in said][-1] == choice.finish_reason
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens and len({chunk.id for chunk in chunks}) == 1


def test_several_choices_and_how_likely_they_are(client: Any, asked: dict[str, Any]) -> None:
    several = client.chat.completions.create(**asked | {"temperature": 1}, n=3, logprobs=True, top_logprobs=2)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    for choice in several.choices:
        entries = choice.logprobs.content
        assert all(-9999 <= entry.logprob <= 0 and len(entry.top_logprobs) == 2 for entry in entries)
        spelled = bytes(byte for entry in entries for byte in entry.bytes)
        assert spelled.decode("utf-8", "replace").startswith(choice.message.content[:3])


def test_the_streams_helper_gathers_the_same(client: Any, asked: dict[str, Any]) -> None:
    with client.chat.completions.stream(**asked) as stream:
        kinds = {event.type for event in stream}
        final = stream.current_completion_snapshot
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == client.chat.completions.create(**asked).choices[0].message.content


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_tool_is_called_and_answered(client: Any, asked: dict[str, Any], choice: Any) -> None:
    asked = asked | {"max_tokens": 200, "tools": [WEATHER]}
    with client.chat.completions.stream(**asked, tool_choice=choice) as stream:
        message = stream.get_final_completion().choices[0].message
    (call,) = message.tool_calls
    assert call.function.name == "weather" and call.id and call.function.parsed_arguments["city"] in ("Rome", "Bern")
    whole = client.chat.completions.create(**asked, tool_choice=choice).choices[0]
    assert whole.finish_reason == "tool_calls"
    assert whole.message.tool_calls[0].function.arguments == call.function.arguments
    # As its cookbook has it: the message goes back as it came.
    back = [*SAY, whole.message, {"role": "tool", "tool_call_id": whole.message.tool_calls[0].id, "content": "Rain."}]
    answer = client.chat.completions.create(**asked | {"messages": back, "max_tokens": 8})
    assert answer.choices[0].finish_reason


def test_parse_gives_the_model_that_was_asked_for(client: Any, asked: dict[str, Any]) -> None:
    asked = asked | {"max_tokens": 400}
    found = client.chat.completions.parse(**asked, response_format=Verdict)
    assert isinstance(found.choices[0].message.parsed, Verdict)
    with client.chat.completions.stream(**asked, response_format=Verdict) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == found.choices[0].message.parsed


def test_completions_of_texts_and_ids(client: Any, served: Any) -> None:
    asked = {"model": served.model, "max_tokens": 4, "temperature": 0}
    two = client.completions.create(**asked, prompt=["The cat", "A dog"], n=2)
    assert [choice.index for choice in two.choices] == [0, 1, 2, 3]
    assert (
        two.choices[0].text
        == two.choices[1].text
        == client.completions.create(**asked, prompt="The cat").choices[0].text
    )
    streamed = client.completions.create(**asked, prompt="The cat", stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed if chunk.choices) == two.choices[0].text
    ids = [5, 6, 7]
    scored = client.completions.create(**asked | {"max_tokens": 1}, prompt=ids, echo=True, logprobs=1).choices[0]
    assert len(scored.logprobs.tokens) == len(ids) + 1 and scored.logprobs.token_logprobs[0] is None
    with pytest.raises(Exception, match="suffix"):
        client.completions.create(**asked, prompt="a", suffix="b")


def test_embeddings_by_default_and_as_floats(client: Any, served: Any) -> None:
    # It asks for base64 where nobody says, and decodes that itself.
    for more in ({}, {"encoding_format": "float"}):
        found = client.embeddings.create(model=served.model, input=["The cat", "A dog"], **more)
        assert [one.index for one in found.data] == [0, 1]
        assert all(math.isclose(math.fsum(x * x for x in one.embedding), 1, rel_tol=1e-4) for one in found.data)


def test_models_and_errors(client: Any, served: Any, asked: dict[str, Any]) -> None:
    from openai import APIError, AuthenticationError, BadRequestError, NotFoundError, OpenAI

    assert served.model in [model.id for model in client.models.list()]
    assert client.models.retrieve(served.model).id == served.model
    with pytest.raises(NotFoundError) as raised:
        client.chat.completions.create(**asked | {"model": "none"})
    assert raised.value.code == "model_not_found"
    with pytest.raises(BadRequestError) as wrong:
        client.chat.completions.create(**asked, extra_body={"teapot": 1})
    assert wrong.value.param == "teapot"
    with OpenAI(base_url=served.v1, api_key="own-wrong", max_retries=0) as stranger, pytest.raises(AuthenticationError):
        stranger.models.list()
    with pytest.raises(APIError):
        list(
            client.chat.completions.create(
                **asked | {"messages": [{"role": "user", "content": "cat " * 9000}]}, stream=True
            )
        )


async def _answers(served: Any, count: int) -> list[str]:
    import asyncio

    from openai import AsyncOpenAI

    asked: Any = {"model": served.model, "messages": SAY, "max_tokens": 6, "temperature": 0}
    async with AsyncOpenAI(base_url=served.v1, api_key=served.key) as client:
        found = await asyncio.gather(*(client.chat.completions.create(**asked) for _ in range(count)))
    return [one.choices[0].message.content for one in found]


def test_the_asynchronous_client(served: Any) -> None:
    import asyncio

    assert len(set(asyncio.run(_answers(served, 8)))) == 1
