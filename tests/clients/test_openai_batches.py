"""Files and batches as OpenAI's own client asks for them."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ownlm.opened import load
from ownlm.server.app import make_app
from ownlm.server.batches.kept import Batches
from ownlm.server.files import Files
from ownlm.server.hosted import Hosted
from ownlm.server.service import Service
from ownlm.server.store import Store
from serving import serving, wide_copy

pytestmark = pytest.mark.peers
ENDPOINT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def client(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    try:
        from openai import OpenAI
    except ImportError:
        pytest.skip("announced: openai is not installed")
    folder = tmp_path_factory.mktemp("served")
    store = Store(folder / "data")
    hosted = {"chat": Hosted("chat", load(wide_copy(workshop / "chat", folder / "chat")))}
    service = Service(hosted=hosted, files=Files(store), batches=Batches(store))
    with serving(make_app(service)) as server, OpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        yield client


def lines(count: int, **more: Any) -> bytes:
    body = {"model": "chat", "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 4, **more}
    asked = [
        {"custom_id": f"{place}", "method": "POST", "url": ENDPOINT, "body": body | {"seed": place}}
        for place in range(count)
    ]
    return b"".join(json.dumps(one).encode() + b"\n" for one in asked)


def until_ended(client: Any, id: str) -> Any:
    deadline = time.monotonic() + 60
    while (batch := client.batches.retrieve(id)).status not in ("completed", "failed", "cancelled"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
    return batch


def test_a_batch_from_file_to_answers(client: Any) -> None:
    file = client.files.create(
        file=("in.jsonl", lines(5)), purpose="batch", expires_after={"anchor": "created_at", "seconds": 7200}
    )
    assert file.purpose == "batch" and file.bytes == len(lines(5)) and file.expires_at == file.created_at + 7200
    assert client.files.content(file.id).read() == lines(5) and client.files.retrieve(file.id) == file
    batch = client.batches.create(
        input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", metadata={"for": "a test"}
    )
    done = until_ended(client, batch.id)
    assert done.status == "completed" and done.request_counts.completed == done.request_counts.total == 5
    assert done.metadata == {"for": "a test"} and done.usage.total_tokens > 0 and done.errors is None
    answers = [json.loads(one) for one in client.files.content(done.output_file_id).text.splitlines()]
    assert [one["custom_id"] for one in answers] == ["0", "1", "2", "3", "4"]
    assert all(one["response"]["body"]["object"] == "chat.completion" for one in answers)
    assert batch.id in [one.id for one in client.batches.list(limit=1)]
    assert {one.id for one in client.files.list(limit=1)} >= {file.id, done.output_file_id}
    assert client.files.delete(file.id).deleted


def test_what_fails_and_what_is_cancelled(client: Any) -> None:
    from openai import NotFoundError

    file = client.files.create(file=b"{}\n", purpose="batch")
    failed = until_ended(
        client, client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h").id
    )
    assert failed.status == "failed" and (failed.errors.data[0].line, failed.errors.data[0].param) == (1, "custom_id")
    file = client.files.create(file=lines(200, max_tokens=500, ignore_eos=True), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h")
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    assert until_ended(client, batch.id).cancelled_at is not None
    with pytest.raises(NotFoundError):
        client.batches.retrieve("batch_none")
