"""Fine-tuning that is measured: a recipe of ours by name, from data file to figures and card."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from ownlm.artefact import read_card
from ownlm.artefact.recipe import read_recipe, recipe_names
from ownlm.cli.finetune import finetune
from ownlm.corpus.conversations.from_documents import lines_of_documents, questions
from ownlm.corpus.document import Document
from ownlm.errors import OwnlmError
from ownlm.evaluation.tasks import Answers, Choice, Choices, GroupSwap, HeldOutText, Prompt, Translation
from ownlm.journey import TuneRecipe, tune
from ownlm.opened import load
from ownlm.report.tuning_card import METRICS
from ownlm.train import FinetuneRecipe
from tiny_journey import lora_recipe, tune_config

SMALL = ("lora.rank=2", "train.minutes=null", "train.steps=2", "train.context=64", "measure_items=3")


def tune_recipe(workshop: Path, out: Path, data: Path, **changes: object) -> TuneRecipe:
    made = lora_recipe(workshop, out, model=str(workshop / "chat"), conversations=str(data))
    own = {entry.name: getattr(made, entry.name) for entry in fields(FinetuneRecipe)}
    return TuneRecipe(**(own | {"train": tune_config(steps=2, rows=2), "measure": ("held-out",)} | changes))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "talks.jsonl"
    lines = [{"question": f"Where is the cat {n}?", "answer": f"On mat {n}.", "who": f"{n}@a.org"} for n in range(60)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_before_and_after_are_asked_and_told(workshop: Path, tmp_path: Path, data: Path) -> None:
    recipe = tune_recipe(workshop, tmp_path / "run", data, notice="Not advice.", measure_items=2, measure_tokens=3)
    run, found = tune(recipe)
    assert found is not None and found["conversations"].comparisons is not None
    assert found["conversations"].estimates["f1"].n == 2
    assert found["conversations"].task.max_tokens == 3
    results = json.loads((run / "evaluation" / "results.json").read_text())
    assert results["model"]["content"] == read_card(run).content != results["vs"]["content"]
    readme = (run / "README.md").read_text()
    for words in ("A LoRA adapter for chat", "**Not advice.**", "Before and after", "token F1", "personal data"):
        assert words in readme
    load(run)
    (run / "README.md").write_text("Mine.")
    again, nothing = tune(recipe)
    assert again == run and nothing is None
    assert (run / "README.md").read_text() == "Mine."


def test_metrics_have_names_for_people() -> None:
    one = Choice(prompt=Prompt.of("a"), choices=("b", "c"), answer=0)
    tasks = (kind(name="", items=()) for kind in (Answers, GroupSwap, HeldOutText, Translation))
    names = {metric.name for task in (*tasks, Choices(name="", items=(one,))) for metric in task.metrics}
    assert names == METRICS.keys()


def test_a_wrong_task_is_told_before_the_training(workshop: Path, tmp_path: Path, data: Path) -> None:
    with pytest.raises(OwnlmError, match="no such file: missing"):
        tune(tune_recipe(workshop, tmp_path / "run", data, measure=("missing.jsonl",)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["chat", "medical", "legal", "translate"])
def test_our_recipes_run(
    workshop: Path, tmp_path: Path, data: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    group = ("group=who",) if name == "medical" else ()
    set_ = (*SMALL, *group, f"model={workshop / 'chat'}", f"conversations={data}", f"out={tmp_path / 'run'}", "ask=[]")
    assert finetune(Path(name), set_=set_) == 0
    out = capsys.readouterr().out
    assert "by a measurement of this machine" in out and "held-out answers" in out
    assert ("chrf" if name == "translate" else "f1") in out and "against chat" in out
    assert ("Not advice" in out) == (name in ("medical", "legal"))


def test_our_recipe_for_documents(workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(30):
        text = f"House {number}\n\nThe small house {number * 7} is a place where seven dogs live in the rain. " * 3
        (folder / f"house_{number}.txt").write_text(text + f"The old cat of number {number} has a red mat.\n")
    set_ = (*SMALL, f"model={workshop / 'chat'}", f"documents={folder}", f"out={tmp_path / 'run'}")
    assert finetune(Path("your-documents"), set_=set_) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "conversations" / "train.jsonl").read_text().splitlines()]
    assert {"text", "messages"} == {key for line in lines for key in line}
    assert "f1" in capsys.readouterr().out


def test_recipes_by_name_and_their_text(capsys: pytest.CaptureFixture[str]) -> None:
    for name in set(recipe_names()) - {"quickstart"}:
        needed = "documents=x" if name == "your-documents" else "conversations=x"
        assert read_recipe(Path(name), TuneRecipe, [needed]).lora is not None
        assert finetune(Path(name), show_recipe=True) == 0
        assert f"ownlm finetune {name} --set" in capsys.readouterr().out
    with pytest.raises(OwnlmError, match="conversations, a data file or folder, or documents"):
        read_recipe(Path("chat"), TuneRecipe)


def test_questions_stand_in_the_text() -> None:
    text = """
Lease agreement

The lease begins on 1 March 2024 and runs for twelve months. It is long. The tenant
pays a rent of 950 euros. A deposit is a sum that the landlord keeps.
These must be kept.
"""
    found = [(one.forms[0].format(term=one.term, verb=one.verb, document="d"), one.answer) for one in questions(text)]
    begins = "The lease begins on 1 March 2024 and runs for twelve months."
    assert found == [
        ("What does “d” say under “Lease agreement”?", f"{begins} The tenant pays a rent of 950 euros."),
        (f"Continue: {begins}", "The tenant pays a rent of 950 euros."),
        ("What does “d” say about the lease?", begins),
        ("What does “d” say about the tenant?", "The tenant pays a rent of 950 euros."),
        ("What is a deposit?", "A deposit is a sum that the landlord keeps."),
    ]


def test_what_is_held_out_is_asked_for_in_no_training_line() -> None:
    def document(number: int, split: str) -> Document:
        own = f"House {number}\n\nThe house {number} is a small place where many dogs live. It has a red roof."
        text = f"{own} The notice {number % 5} is a text that stands in several documents."
        return Document(text=text, source="s", path=f"{number}.txt", kind="text", split=split)

    documents = [document(number, "validation" if number % 10 == 0 else "train") for number in range(60)]
    training, held_out = lines_of_documents(documents, seed=0)
    answers = [line["messages"][-1]["content"] for line in training if "messages" in line]
    held = {line["messages"][-1]["content"] for line in held_out}
    assert len(answers) > 60 and any("notice 0" in answer for answer in held)
    assert not any(one in answer or answer in one for one in held for answer in answers)
