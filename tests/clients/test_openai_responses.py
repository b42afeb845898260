"""(peers) /v1/responses with OpenAI's own client: whole, streamed, parsed, kept, gone on from, in the background."""

import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ownlm.opened import load
from ownlm.server.app import make_app
from ownlm.server.hosted import Hosted
from ownlm.server.responses.going import Responses
from ownlm.server.responses.kept import Kept
from ownlm.server.service import Service
from ownlm.server.store import Store
from serving import serving, wide_copy
from weather_tool import FUNCTION, Verdict

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="announced: openai is not installed"),
    # The client's own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ASKED: dict[str, Any] = {"model": "chat", "input": "Who are you?", "max_output_tokens": 40, "temperature": 0}
# A tiny model may write many blanks between the parts of an object.
ROOMY = ASKED | {"max_output_tokens": 400}
TOOL: dict[str, Any] = {"type": "function", **FUNCTION}


@pytest.fixture(scope="module")
def client(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from openai import OpenAI

    folder = tmp_path_factory.mktemp("served")
    hosted = {"chat": Hosted("chat", load(wide_copy(workshop / "chat", folder / "chat")))}
    service = Service(hosted=hosted, responses=Responses(Kept(Store(folder / "data"))))
    with (
        serving(make_app(service)) as server,
        OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield client


def checked(found: Any) -> Any:
    """Its types take any answer as it comes; here every field must be of the type that they name."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.model_validate(found.to_dict(), strict=True)
    return found


def test_create_retrieve_and_go_on(client: Any) -> None:
    first = checked(client.responses.create(**ASKED, instructions="Be kind.", metadata={"a": "b"}))
    assert first.status == "completed" and first.output_text and first.usage.output_tokens > 0
    assert client.responses.retrieve(first.id) == first
    listed = client.responses.input_items.list(first.id).data
    assert [item.content[0].text for item in listed] == ["Who are you?"]
    then = checked(client.responses.create(**ASKED | {"input": "And 3 + 4?"}, previous_response_id=first.id))
    assert then.previous_response_id == first.id and then.usage.input_tokens > first.usage.input_tokens
    again = client.responses.create(**ASKED | {"input": [*first.output, {"role": "user", "content": "And 3 + 4?"}]})
    assert again.status in ("completed", "incomplete")
    assert client.responses.input_tokens.count(input="Who are you?").input_tokens > 0
    client.responses.delete(first.id)
    from openai import NotFoundError

    with pytest.raises(NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(NotFoundError):
        client.responses.create(**ASKED, previous_response_id=first.id)


@pytest.mark.parametrize("logprobs", [False, True])
def test_a_stream_and_its_events(client: Any, logprobs: bool) -> None:
    more = {"include": ["message.output_text.logprobs"], "top_logprobs": 2} if logprobs else {}
    with client.responses.stream(**ASKED, **more) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == final.output_text == client.responses.create(**ASKED).output_text
    for event in client.responses.create(**ASKED, **more, stream=True):
        checked(event)


def test_parse_gives_the_model_that_was_asked_for(client: Any) -> None:
    found = client.responses.parse(**ROOMY, text_format=Verdict)
    assert isinstance(found.output_parsed, Verdict)
    with client.responses.stream(**ROOMY, text_format=Verdict) as stream:
        assert stream.get_final_response().output_parsed == found.output_parsed


def test_a_tool_is_called_and_answered(client: Any) -> None:
    with client.responses.stream(**ROOMY, tools=[TOOL], tool_choice="required") as stream:
        found = stream.get_final_response()
    (call,) = found.output
    assert call.name == "weather" and call.parsed_arguments["city"] in ("Rome", "Bern")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "It rains."}
    checked(client.responses.create(**ASKED | {"input": [result]}, tools=[TOOL], previous_response_id=found.id))
    whole = [{"role": "user", "content": "Who are you?"}, call, result]
    assert client.responses.create(**ASKED | {"input": whole}, tools=[TOOL]).status


def test_in_the_background(client: Any) -> None:
    long = ASKED | {"max_output_tokens": 200, "extra_body": {"ignore_eos": True}}
    running = client.responses.create(**long, background=True)
    assert running.status in ("queued", "in_progress")
    assert checked(client.responses.cancel(running.id)).status == "cancelled"
    assert client.responses.retrieve(running.id).status == "cancelled"
    first = []
    with client.responses.create(**ASKED, background=True, stream=True) as stream:
        for event in stream:
            first.append(event)
            if event.sequence_number == 3:
                break
    id = first[0].response.id
    rest = list(client.responses.retrieve(id, stream=True, starting_after=3))
    assert rest[0].sequence_number == 4 and rest[-1].type == "response.completed"
    assert client.responses.retrieve(id) == rest[-1].response
    with client.responses.stream(response_id=id, starting_after=3) as stream:
        assert stream.get_final_response().output_text == rest[-1].response.output_text


def test_what_is_wrong_is_an_error_of_its_own(client: Any) -> None:
    from openai import BadRequestError

    with pytest.raises(BadRequestError) as raised:
        client.responses.create(**ASKED, truncation="auto")
    assert raised.value.param == "truncation"
    with pytest.raises(BadRequestError):
        client.responses.create(**ASKED | {"input": "cat " * 5000}, stream=True)
