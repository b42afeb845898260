"""The sampling that a model's makers suggest: read from its files, kept when it is written, used by the chat."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ownlm.model.starters import STARTERS, starter_path
from ownlm.opened import convert, load, read_files
from ownlm.opened.suggested import generation_fields, suggested_sampling

QWEN = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}


@pytest.mark.parametrize(
    ("generation", "expected"),
    [
        (QWEN, {name: value for name, value in QWEN.items() if name != "do_sample"}),
        ({"temperature": 1, "min_p": 0.05}, {"temperature": 1.0, "min_p": 0.05}),
        ({"do_sample": False, "top_k": 5, "repetition_penalty": 1.1}, {"temperature": 0.0, "repetition_penalty": 1.1}),
        ({"eos_token_id": 3, "transformers_version": "5"}, {}),
        ({"temperature": -1, "top_k": 2.5, "top_p": 0, "min_p": 1.0, "repetition_penalty": "2"}, {}),
        ({"temperature": float("nan"), "top_k": True, "top_p": None, "repetition_penalty": [1]}, {}),
        ({"temperature": 10**400, "repetition_penalty": float("inf"), "top_p": 0.9}, {"top_p": 0.9}),
    ],
)
def test_what_is_read(generation: dict[str, Any], expected: dict[str, Any]) -> None:
    found = suggested_sampling(generation)
    assert found == expected and all(type(found[name]) is type(expected[name]) for name in found)
    assert suggested_sampling(generation_fields(found)) == found


def test_it_survives_saving_and_converting(workshop: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(workshop / "chat", source, ignore=shutil.ignore_patterns("card.json"))
    path = source / "generation_config.json"
    ends = json.loads(path.read_text())
    path.write_text(json.dumps({**ends, **QWEN, "min_p": 7}))
    model = load(source)
    model.save(tmp_path / "saved")
    convert(source, tmp_path / "converted")
    for name in ("saved", "converted"):
        assert json.loads((tmp_path / name / "generation_config.json").read_text()) == {**ends, **QWEN}
        assert load(tmp_path / name).suggested_sampling == model.suggested_sampling == suggested_sampling(QWEN)
    answer = model.chat([{"role": "user", "content": "Hi"}], **model.suggested_sampling, max_tokens=3, seed=1)
    assert answer.token_ids


def test_a_starters_goes_with_it(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWNLM_CACHE", str(tmp_path / "cache"))
    starter = STARTERS["smollm2"]
    place = starter_path(starter)
    place.parent.mkdir(parents=True)
    convert(workshop / "chat", place)
    assert read_files(place).suggested_sampling == starter.sampling
    convert(place, tmp_path / "folder")
    assert load(tmp_path / "folder").suggested_sampling == starter.sampling
    assert json.loads((tmp_path / "folder" / "generation_config.json").read_text())["do_sample"] is False
    shutil.copy(place, tmp_path / "other.gguf")
    assert read_files(tmp_path / "other.gguf").suggested_sampling == {}
