"""A LoRA adapter trained beside another's model: its folder is a MODEL, and converting it merges it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ownlm.artefact import read_card
from ownlm.cli.convert import convert as convert_command
from ownlm.errors import OwnlmError
from ownlm.model.lora import adapted
from ownlm.model.lora_folder import CONFIG, WEIGHTS
from ownlm.opened import convert, load
from ownlm.train import LoraTuning, finetune
from tiny_journey import lora_recipe, tune_config

IDS = list(range(40, 60))


@pytest.fixture(scope="module")
def place(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`theirs`: a model folder with another's tokenizer and template, as after a way through GGUF; `run`: tuned."""
    place = tmp_path_factory.mktemp("tuned")
    convert(workshop / "chat", place / "mine.gguf")
    convert(place / "mine.gguf", place / "theirs")
    finetune(lora_recipe(workshop, place / "run", model=str(place / "theirs")))
    return place


def test_its_folder_is_a_model(place: Path) -> None:
    fields = json.loads((place / "run" / CONFIG).read_text())
    assert fields["base_model_name_or_path"] == "../theirs"
    assert set(fields["target_modules"]) >= {"q_proj", "v_proj", "down_proj"}
    tuned, base = load(place / "run"), load(place / "theirs")
    assert not torch.allclose(tuned.logits(IDS), base.logits(IDS), atol=1e-3)
    base.use_adapter(place / "run")
    asked = [{"role": "user", "content": "Who are you?"}]
    assert base.chat(asked, temperature=0, max_tokens=6).text == tuned.chat(asked, temperature=0, max_tokens=6).text
    assert read_card(place / "run").figures["validation"]["loss"] > 0


@pytest.mark.parametrize("name", ["merged", "merged.gguf"])
def test_converting_merges_it(place: Path, tmp_path: Path, name: str) -> None:
    convert(place / "run", tmp_path / name)
    torch.testing.assert_close(load(tmp_path / name).logits(IDS), load(place / "run").logits(IDS), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dora", [False, True])
def test_beside_four_bits_it_is_trained_and_merged_into_full_precision(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], dora: bool
) -> None:
    convert(workshop / "chat", tmp_path / "small.gguf", quantization="Q4_1")
    tuning = LoraTuning(rank=4, alpha=8.0, quantize="blocks", dora=dora)
    finetune(lora_recipe(workshop, tmp_path / "run", model=str(tmp_path / "small.gguf"), lora=tuning))
    base = load(tmp_path / "small.gguf", dtype="float32")
    base.use_adapter(tmp_path / "run")
    with adapted(base.decoder, [(slice(None), base.adapter)]):  # type: ignore[list-item]
        beside = base.logits(IDS)
    convert(tmp_path / "run", tmp_path / "merged")
    torch.testing.assert_close(load(tmp_path / "merged").logits(IDS), beside, rtol=0, atol=1e-4)
    if dora:
        return
    # A change finer than the steps of the file it is merged into.
    weights = load_file(tmp_path / "run" / WEIGHTS)
    shutil.copytree(tmp_path / "run", tmp_path / "fine")
    (tmp_path / "fine" / "card.json").unlink()
    save_file({name: 0.05 * tensor for name, tensor in weights.items()}, tmp_path / "fine" / WEIGHTS)
    convert_command(str(tmp_path / "fine"), tmp_path / "again.gguf", quantization="Q4_1")
    assert "some or all of what it learned may be lost" in " ".join(capsys.readouterr().out.split())


def test_saving_merges_it(place: Path, tmp_path: Path) -> None:
    load(place / "run").save(tmp_path / "saved")
    assert torch.equal(load(tmp_path / "saved").logits(IDS), load(place / "run").logits(IDS))


def test_in_lower_precision_it_stands_beside_the_weights(place: Path) -> None:
    low, wide = (load(place / "run", dtype=dtype).logits(IDS) for dtype in ("bfloat16", "float32"))
    base = load(place / "theirs", dtype="bfloat16").logits(IDS)
    assert (low - wide).abs().mean() < 0.2 * (base - wide).abs().mean()


def test_a_changed_or_missing_base_is_refused(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "moved")
    load(tmp_path / "moved" / "run")
    config = tmp_path / "moved" / "theirs" / "generation_config.json"
    (tmp_path / "moved" / "theirs" / "card.json").unlink()
    config.write_text(config.read_text() + "\n")
    with pytest.raises(OwnlmError, match=r"is not the model that the adapter in .* was trained on; put that"):
        load(tmp_path / "moved" / "run")
    shutil.rmtree(tmp_path / "moved" / "theirs")
    with pytest.raises(OwnlmError, match=r"is an adapter for \.\./theirs, which is not here"):
        load(tmp_path / "moved" / "run")


def test_an_adapter_is_no_base(place: Path, workshop: Path, tmp_path: Path) -> None:
    with pytest.raises(OwnlmError, match="is an adapter itself; merge it first"):
        finetune(lora_recipe(workshop, tmp_path / "again", model=str(place / "run")))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lora": LoraTuning(modules=("q_prj",))}, "no layer of this model is named q_prj; it has .*q_proj"),
        ({"lora": LoraTuning(rank=10**9)}, "rank 1000000000 is more than this model's layers have, 64; lower it"),
        ({"lora": None, "freeze": ("model.layer.*",)}, r"no parameter is named model\.layer\.\*"),
        ({"lora": None, "freeze": ("*",)}, "nothing is left to train"),
    ],
)
def test_what_fits_nothing_is_refused(workshop: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OwnlmError, match=words):
        finetune(lora_recipe(workshop, tmp_path / "run", **changes))


def test_what_contradicts_itself_is_refused(workshop: Path, tmp_path: Path) -> None:
    for changes in ({"freeze": ("*",)}, {"from_scratch": True}):
        with pytest.raises(OwnlmError, match=r"leave .* or lora out"):
            lora_recipe(workshop, tmp_path / "run", **changes)


def test_frozen_parameters_stand_still(workshop: Path, tmp_path: Path) -> None:
    patterns = ("model.embed_tokens.*", "model.layers.0.*")
    train = tune_config(steps=2, rows=2)
    finetune(lora_recipe(workshop, tmp_path / "run", lora=None, freeze=patterns, train=train))
    before, after = (load(folder).decoder for folder in (workshop / "base", tmp_path / "run"))
    moved = {name for name, value in after.named_parameters() if not torch.equal(value, before.get_parameter(name))}
    assert moved and not any(name.startswith(("model.embed_tokens", "model.layers.0.")) for name in moved)
    assert any(name.startswith("model.layers.1.") for name in moved)
