"""Fine-tuning: what it refuses at its start, what it says before its first step, where its data come from."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.artefact import read_card
from ownlm.errors import OwnlmError
from ownlm.tokenizer import CHAT_TEMPLATE
from ownlm.train import finetune
from ownlm.train.batch import Batch
from ownlm.train.config import TuneOptimizerConfig
from ownlm.train.loop import Stopped
from ownlm.train.mixture import MixedRows
from tiny_journey import chat_recipe, tune_config
from tiny_models import make_conversations


def test_a_question_longer_than_the_context_is_refused_before_the_first_step(workshop: Path, tmp_path: Path) -> None:
    recipe = chat_recipe(workshop, tmp_path / "chat", train=tune_config(steps=1), ask=("Who?", "word " * 80))
    with pytest.raises(OwnlmError, match=r"^ask: 'word word .*\.\.\.' has \d+ tokens.*context is 64; shorten it$"):
        finetune(recipe)
    assert not (tmp_path / "chat" / "events.jsonl").exists()
    # Nothing has begun, so the mended recipe may have the same folder.
    finetune(replace(recipe, ask=("Who?",)))


def test_a_data_file_is_made_into_a_folder_of_the_run_once(workshop: Path, tmp_path: Path) -> None:
    lines = [{"prompt": f"What is {n}?", "completion": f"The number {n}."} for n in range(40)]
    data = tmp_path / "mine.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    recipe = chat_recipe(
        workshop, tmp_path / "chat", train=tune_config(steps=2), conversations=str(data), replay=str(data), ask=()
    )
    heard: list[dict[str, Any]] = []
    finetune(recipe, on_event=heard.append)
    card = read_card(tmp_path / "chat")
    assert card.inputs["conversations"] == read_card(tmp_path / "chat" / "conversations").content
    assert card.inputs["replay"] == read_card(tmp_path / "chat" / "replay").content
    expected = heard[0]["expected"]
    assert expected["minutes"] > 0 and expected["memory_bytes"] > 10**7 and expected["disk_bytes"] > 10**5


def test_a_mended_recipe_reads_its_own_data(workshop: Path, tmp_path: Path) -> None:
    def data(name: str) -> str:
        path = tmp_path / name
        lines = [{"prompt": f"{name} {n}?", "completion": f"The number {n}.", "who": f"{n % 9}"} for n in range(40)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return str(path)

    wrong = chat_recipe(
        workshop, tmp_path / "chat", train=tune_config(steps=1, context=4096), conversations=data("one"), ask=()
    )
    with pytest.raises(OwnlmError, match="longer than the model's"):
        finetune(wrong)
    finetune(replace(wrong, train=tune_config(steps=1), conversations=data("other"), group="who"))
    train = (tmp_path / "chat" / "conversations" / "train.jsonl").read_text()
    assert "other 1?" in train and "one 1?" not in train
    assert "group: who" in (tmp_path / "chat" / "recipe.yaml").read_text()
    # What a folder holds out is decided already.
    made = str(tmp_path / "chat" / "conversations")
    with pytest.raises(OwnlmError, match="without the group n"):
        finetune(replace(wrong, out=str(tmp_path / "next"), conversations=made, group="n"))


@pytest.mark.parametrize("changed", ["conversations", "base", "chat_template"])
def test_what_a_stopped_run_reads_may_not_change(workshop: Path, tmp_path: Path, changed: str) -> None:
    place, template = tmp_path / "workshop", tmp_path / "form.jinja"
    shutil.copytree(workshop, place)
    template.write_text(CHAT_TEMPLATE, encoding="utf-8")
    train = tune_config(steps=2)
    recipe = chat_recipe(place, tmp_path / "chat", train=train, chat_template=str(template), ask=())

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            (tmp_path / "chat" / "control").write_text("stop", encoding="utf-8")

    with pytest.raises(Stopped):
        finetune(recipe, on_event=stop)
    if changed == "conversations":
        shutil.rmtree(place / "conversations")
        make_conversations(place / "conversations", [("Who?", "Others."), ("What?", "Other things.")])
    elif changed == "base":
        shutil.rmtree(place / "base")
        shutil.copytree(place / "chat", place / "base")
    else:
        template.write_text(CHAT_TEMPLATE.replace("\\n", "\\n\\n", 1), encoding="utf-8")
    with pytest.raises(OwnlmError, match=f"its input `{changed}` was changed since the run began"):
        finetune(recipe)


def test_data_where_the_run_makes_its_own_is_refused_and_kept(workshop: Path, tmp_path: Path) -> None:
    run = tmp_path / "chat"
    (run / "corpus").mkdir(parents=True)
    (run / "recipe.yaml").write_text("", encoding="utf-8")
    (run / "corpus" / "mine.txt").write_text("My only copy.", encoding="utf-8")
    with pytest.raises(OwnlmError, match="keep yours elsewhere"):
        finetune(chat_recipe(workshop, run, conversations=None, documents=str(run / "corpus")))
    assert (run / "corpus" / "mine.txt").is_file()


def test_a_run_that_ends_in_no_number_says_so(workshop: Path, tmp_path: Path) -> None:
    train = tune_config(steps=2, optimizer=TuneOptimizerConfig(learning_rate=1e30))
    with pytest.raises(OwnlmError, match="after step 2 is no finite number; lower the learning rates"):
        finetune(chat_recipe(workshop, tmp_path / "chat", train=train, ask=()))


def test_replay_rows_lie_evenly_among_the_others() -> None:
    class Numbers:
        def __init__(self, first: int) -> None:
            self.first = first

        def batch(self, first_row: int, rows: int) -> Batch:
            row = torch.arange(first_row, first_row + rows).unsqueeze(1) + self.first
            return Batch(tokens_BT=row, targets_BT=row, positions_BT=row, documents_BT=row)

    mixed = MixedRows(Numbers(0), Numbers(100), 0.25)
    whole = mixed.batch(0, 8).tokens_BT.flatten().tolist()
    assert whole == [0, 1, 2, 100, 3, 4, 5, 101]
    assert torch.cat([mixed.batch(0, 3).tokens_BT, mixed.batch(3, 5).tokens_BT]).flatten().tolist() == whole
    odd = MixedRows(Numbers(0), Numbers(1000), 0.13).batch(0, 100).tokens_BT.flatten().tolist()
    assert [row for row in odd if row < 1000] == list(range(87))
    assert [row - 1000 for row in odd if row >= 1000] == list(range(13))
