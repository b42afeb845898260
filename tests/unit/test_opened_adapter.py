"""A LoRA adapter beside an opened model: in Python, on the command line, over a file of prompts."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from ownlm.cli.generate import generate
from ownlm.errors import OwnlmError
from ownlm.model.load import write_decoder
from ownlm.model.lora import LoraAdapter
from ownlm.model.lora_pair import LoraConfig
from ownlm.opened import Model, load
from tiny_models import random_decoder, tiny_tokenizer


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in `model`, and in `adapter` one that changes what it says."""
    place = tmp_path_factory.mktemp("adapted")
    (place / "model").mkdir()
    tokenizer, decoder = tiny_tokenizer(), random_decoder()
    write_decoder(place / "model", decoder, eos_ids=[tokenizer.end_of_text_id], pad_id=tokenizer.pad_id)
    tokenizer.save(place / "model")
    adapter = LoraAdapter.new(decoder, LoraConfig(rank=2, alpha=16.0), modules=["q_proj", "down_proj"])
    with torch.no_grad():
        for number, pair in enumerate(adapter.each()):
            pair.b_Or.copy_(torch.randn(pair.b_Or.shape, generator=torch.Generator().manual_seed(number)))
    (place / "adapter").mkdir()
    adapter.save(place / "adapter")
    return place


def said(model: Model) -> list[int]:
    return model.generate("the cat", max_tokens=12, temperature=0, ignore_eos=True).token_ids


def test_it_is_used_until_it_is_taken_away(place: Path) -> None:
    model = load(place / "model")
    plain = said(model)
    model.use_adapter(place / "adapter")
    changed = said(model)
    merged = load(place / "model")
    LoraAdapter.load(place / "adapter", merged.decoder).merge(merged.decoder)
    assert changed == said(merged) != plain
    model.use_adapter(None)
    assert said(model) == plain


def test_requests_with_and_without_it_share_a_step_and_no_beginning(place: Path) -> None:
    model = load(place / "model")
    adapter = LoraAdapter.load(place / "adapter", model.decoder)
    prompt = model.tokenizer.encode("the cat sat on a mat and saw how seven small dogs ran to their old red house " * 2)
    plain = model.complete([prompt], temperature=0, max_tokens=4)[0]
    changed = model.complete([prompt], temperature=0, max_tokens=4, adapter=adapter)[0]
    assert plain.token_ids != changed.token_ids and changed.usage["cached_tokens"] == 0
    assert model.complete([prompt], temperature=0, max_tokens=4, adapter=adapter)[0].usage["cached_tokens"] > 0


def test_on_the_command_line_and_over_a_file(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ownlm.cli.generate_flags import DrawingFlags, EndingFlags

    model = load(place / "model")
    model.use_adapter(place / "adapter")
    wanted = model.generate("the cat", max_tokens=12, temperature=0).text
    settings = {"ending": EndingFlags(max_tokens=12), "drawing": DrawingFlags(temperature=0)}
    assert generate(str(place / "model"), "the cat", json=True, adapter=place / "adapter", **settings) == 0  # type: ignore[arg-type]
    assert json.loads(capsys.readouterr().out)["text"] == wanted
    lines, out = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    lines.write_text('{"prompt": "the cat"}\n')
    files = {"input": lines, "output": out, "adapter": place / "adapter"}
    assert generate(str(place / "model"), **files, **settings) == 0  # type: ignore[arg-type]
    assert json.loads(out.read_text())["text"] == wanted


def test_a_folder_that_holds_none_is_refused(place: Path) -> None:
    with pytest.raises(OwnlmError, match=r"adapter_config\.json"):
        load(place / "model").use_adapter(place / "model")


def test_beams_go_through_it_too(place: Path) -> None:
    model, merged = load(place / "model"), load(place / "model")
    LoraAdapter.load(place / "adapter", merged.decoder).merge(merged.decoder)
    model.use_adapter(place / "adapter")
    found, wanted = (one.beams("the cat", beams=3, max_tokens=5) for one in (model, merged))
    assert [answer.token_ids for answer in found] == [answer.token_ids for answer in wanted]


def test_another_models_adapter_is_refused_before_anything_is_computed(place: Path) -> None:
    narrow = random_decoder(num_hidden_layers=1).eval()
    (place / "narrow").mkdir()
    write_decoder(place / "narrow", narrow, eos_ids=[tiny_tokenizer().end_of_text_id], pad_id=None)
    tiny_tokenizer().save(place / "narrow")
    adapter = LoraAdapter.load(place / "adapter", load(place / "model").decoder)
    with pytest.raises(OwnlmError, match="does not have so"):
        load(place / "narrow").generate("the cat", adapter=adapter)


@pytest.mark.parametrize("base", [".", "../other", "hub:org/name"])
def test_an_adapters_base_is_neither_an_adapter_nor_fetched(
    place: Path, tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_the_cache_alone(*_: object, local_files_only: bool = False, **__: object) -> str:
        assert local_files_only, "the hub was asked"
        raise FileNotFoundError

    monkeypatch.setattr("huggingface_hub.snapshot_download", in_the_cache_alone)
    for name, its in (("adapter", base), ("other", "../adapter")):
        shutil.copytree(place / "adapter", tmp_path / name)
        config = tmp_path / name / "adapter_config.json"
        fields = json.loads(config.read_text(encoding="utf-8"))
        config.write_text(json.dumps(fields | {"base_model_name_or_path": its}), encoding="utf-8")
    words = "org/name is not on this machine, and is fetched only where you name it"
    with pytest.raises(OwnlmError, match=words if base.startswith("hub:") else "is an adapter for another adapter"):
        load(tmp_path / "adapter")
