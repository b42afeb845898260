"""/infill and the suffix of /v1/completions: what stands around a gap becomes a prompt with the model's own marks."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ownlm.opened import Model, load
from ownlm.server.app import make_app
from ownlm.server.guard.guard import text_before
from ownlm.server.hosted import Hosted
from ownlm.server.service import Service
from ownlm.tokenizer import FillMarks, fill_marks, fill_prompt
from serving import Server, serving

# Of the tiny model's reserved tokens are made another maker's marks.
RENAMED = {0: "<fim_prefix>", 1: "<fim_suffix>", 2: "<fim_middle>", 3: "<|file_sep|>", 4: "<REPO>"}


@pytest.fixture(scope="module")
def coder(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("coder") / "coder"
    shutil.copytree(workshop / "base", folder)
    (folder / "card.json").unlink()  # it is another's now
    file = folder / "tokenizer.json"
    text = file.read_text()
    for number, name in RENAMED.items():
        text = text.replace(f"<|reserved_{number}|>", name)
    file.write_text(text.replace("<|fim_", "<|no_"))
    return load(folder)


@pytest.fixture(scope="module")
def server(coder: Model, workshop: Path) -> Iterator[Server]:
    hosted = {"coder": Hosted("coder", coder), "base": Hosted("base", load(workshop / "base"))}
    with serving(make_app(Service(hosted=hosted))) as server:
        yield server


@pytest.fixture
def marks(coder: Model) -> FillMarks:
    found = fill_marks(coder.tokenizer)
    assert found is not None
    return found


def test_the_marks_stand_around_the_gap(coder: Model, marks: FillMarks) -> None:
    encode, special = coder.tokenizer.encode, coder.tokenizer.special
    prompt = fill_prompt(coder.tokenizer, marks, "The <fim_suffix> cat ", " a mat")
    assert prompt == [
        *(special["<fim_prefix>"], *encode("The <fim_suffix> cat "), special["<fim_suffix>"], *encode(" a mat")),
        special["<fim_middle>"],
    ], "and no text becomes one of them"
    whole = fill_prompt(coder.tokenizer, marks, "a", "b", files=[("x.py", "one"), ("y.py", "two")])
    said = coder.tokenizer.decode(whole)
    assert said == (
        "<REPO>project\n<|file_sep|>x.py\none\n<|file_sep|>y.py\ntwo\n<|file_sep|>filename\n"
        "<fim_prefix>a<fim_suffix>b<fim_middle>"
    )


def test_what_is_farthest_from_the_gap_is_left_out(coder: Model, marks: FillMarks) -> None:
    tokenizer = coder.tokenizer
    before, after = "one two three four five " * 20, "six seven eight nine ten " * 20
    for room in (40, 100, 10_000):
        prompt = fill_prompt(tokenizer, marks, before, after, files=[("x.py", "one " * 40)] * 3, room=room)
        assert len(prompt) <= room
        said = tokenizer.decode(prompt).partition("<fim_prefix>")[2]
        prefix, _, rest = said.partition("<fim_suffix>")
        assert before.endswith(prefix) and after.startswith(rest.removesuffix("<fim_middle>")) and len(prefix) > 10


def test_a_gap_is_filled(server: Server, coder: Model, marks: FillMarks) -> None:
    body = {"input_prefix": "The cat ", "input_suffix": " a mat", "n_predict": 6, "temperature": 0, "model": "coder"}
    found = server.post("/infill", body).json()
    prompt = fill_prompt(coder.tokenizer, marks, "The cat ", " a mat")
    by_ids = {"model": "coder", "prompt": prompt, "max_tokens": 6, "temperature": 0, "stop_token_ids": [*marks.ends]}
    expected = server.post("/v1/completions", by_ids).json()["choices"][0]["text"]
    assert found["content"] == expected != "" and found["stop"] is True
    assert found["tokens_evaluated"] == len(prompt) and found["timings"]["predicted_n"] == found["tokens_predicted"]
    events = server.post("/infill", body | {"stream": True}).events()
    assert "".join(event["content"] for event in events) == found["content"] and events[-1]["stop"] is True
    completed = server.post(
        "/v1/completions",
        {"model": "coder", "prompt": "The cat ", "suffix": " a mat", "max_tokens": 6, "temperature": 0},
    ).json()
    assert completed["choices"][0]["text"] == found["content"]


def test_an_editor_gets_the_fields_it_asks_for(server: Server) -> None:
    body = {
        "model": "coder",
        "id_slot": 0,
        "input_prefix": "The",
        "input_suffix": "",
        "input_extra": [{"filename": "a.py", "text": "The cat"}],
        "prompt": " cat",
        "n_predict": 0,
        "samplers": ["top_k", "top_p", "infill"],
        "cache_prompt": True,
        "t_max_prompt_ms": 500,
        "response_fields": ["content", "timings/prompt_n", "truncated", "no/such"],
    }
    found = server.post("/infill", body).json()
    assert found.keys() == {"content", "timings/prompt_n", "truncated"} and found["content"] == ""


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/infill", {"model": "base", "input_prefix": "a"}, "model"),
        ("/infill", {"model": "coder", "n": 2}, "n"),
        ("/infill", {"model": "coder", "n_predict": -2}, "n_predict"),
        ("/infill", {"model": "coder", "repeat_last_n": 3}, "repeat_last_n"),
        ("/infill", {"input_prefix": "a"}, "model"),
        ("/v1/completions", {"model": "base", "prompt": "a", "suffix": "b"}, "suffix"),
        ("/v1/completions", {"model": "coder", "prompt": ["a"], "suffix": "b"}, "suffix"),
    ],
)
def test_what_cannot_be_filled_is_refused(server: Server, path: str, body: dict[str, object], param: str) -> None:
    answer = server.post(path, body)
    assert answer.status == 400 and answer.json()["error"]["param"] == param


def test_capabilities_say_which_model_fills_in(server: Server) -> None:
    found = {one["id"]: one["capabilities"]["infill"] for one in server.get("/v1/models").json()["data"]}
    assert found == {"coder": True, "base": False}


def test_what_fills_a_gap_is_looked_at_with_the_text_before_it(coder: Model, marks: FillMarks) -> None:
    """A policy's word of which the client writes the first half."""
    tokenizer = coder.tokenizer
    prompt = fill_prompt(tokenizer, marks, "It is a blue", " in a tree")
    assert text_before(prompt, tokenizer) == "It is a blue"
    suffix_first = [marks.suffix, *tokenizer.encode("after"), marks.prefix, *tokenizer.encode("blue"), marks.middle]
    assert text_before(suffix_first, tokenizer) == "blue"
    assert text_before([marks.file or 0, *tokenizer.encode("It is a blue")], tokenizer) == "It is a blue"
