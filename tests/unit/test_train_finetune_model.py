"""The `model` of a fine-tuning recipe: any MODEL, and recorded so that a moved run still means it."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import tiny_starter
from ownlm.artefact import read_card
from ownlm.errors import OwnlmError
from ownlm.model.locate import verified_content
from ownlm.train import finetune
from tiny_journey import chat_recipe, tune_config


def test_a_folder_without_a_card_is_tuned_and_named_by_its_content(workshop: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(workshop / "base", plain, ignore=shutil.ignore_patterns("card.json", "checkpoints", "snapshots"))
    recipe = replace(chat_recipe(workshop, tmp_path / "tuned", model=str(plain)), train=tune_config(steps=2))
    finetune(recipe)
    assert read_card(tmp_path / "tuned").inputs["base"] == verified_content(plain)
    shutil.rmtree(plain)
    assert finetune(recipe) == tmp_path / "tuned", "a finished run needs its base no more"


def test_a_starters_name_is_written_as_it_is(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_starter.know(monkeypatch, tmp_path)
    with pytest.raises(OwnlmError, match="ownlm starter get tiny"):
        finetune(chat_recipe(workshop, tmp_path / "tuned", model="tiny"))
    written = (tmp_path / "tuned" / "recipe.yaml").read_text()
    assert "model: tiny\n" in written and "../workshop" in written.replace(workshop.name, "workshop")
