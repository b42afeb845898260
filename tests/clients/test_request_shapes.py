"""Bodies as aider, Continue, Codex and open-webui send them: each is answered, and a stream is read as they read it.

The files in shapes/ were written after the sources that they name; they hold no line of them.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ownlm.server.app import make_app
from serving import Server, serving, whole_service, wide_copy

SHAPES = {
    path.stem: json.loads(path.read_text())["requests"] for path in sorted(Path(__file__).parent.glob("shapes/*"))
}


@pytest.fixture(scope="module")
def server(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("asked")
    with serving(make_app(whole_service(wide_copy(workshop / "chat", folder / "chat"), folder / "data"))) as server:
        yield server


@pytest.mark.parametrize(
    ("client", "request_"),
    [pytest.param(name, one, id=f"{name}-{place}") for name, all_ in SHAPES.items() for place, one in enumerate(all_)],
)
def test_it_is_answered(server: Server, client: str, request_: dict[str, Any]) -> None:
    path, body = request_["path"], request_["body"]
    answer = server.post(path, body, headers=request_.get("headers"))
    assert answer.status == 200, answer.body
    if not body.get("stream"):
        assert answer.json()
        return
    events = answer.events()
    if path == "/v1/responses":
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert events[-1]["type"] in ("response.completed", "response.incomplete")
        assert [item["status"] for item in events[-1]["response"]["output"]]
        return
    assert answer.body.endswith(b"data: [DONE]\n\n")
    with_choices = [event for event in events if event["choices"]]
    assert [event["choices"][0]["finish_reason"] is None for event in with_choices] == [
        *[True] * (len(with_choices) - 1),
        False,
    ]
    if body.get("stream_options"):
        assert events[-1]["choices"] == [] and events[-1]["usage"]["completion_tokens"] > 0


def test_a_form_holds_codex_answer(server: Server) -> None:
    events = server.post("/v1/responses", SHAPES["codex"][1]["body"]).events()
    text = events[-1]["response"]["output"][-1]["content"][0]["text"]
    assert json.loads(text)["city"] in ("Rome", "Bern")
