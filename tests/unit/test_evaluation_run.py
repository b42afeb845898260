"""`ownlm.evaluate` and `ownlm evaluate` on a tiny model: what is written, compared and refused."""

import json
from pathlib import Path

import pytest

import ownlm
from ownlm.artefact import verify_artefact
from ownlm.cli.main import run
from ownlm.model.lora import LoraAdapter
from ownlm.model.lora_pair import LoraConfig
from ownlm.opened import load


@pytest.fixture
def items(tmp_path: Path) -> Path:
    rows = [
        {"question": "Who are you?", "answer": "A small model."},
        {"question": "What is 3 + 4?", "answer": "It is 7."},
        {"question": "What does len do?", "answers": ["nothing", "It returns the number of items."]},
    ]
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_model_that_knows_its_answers(workshop: Path, items: Path, tmp_path: Path) -> None:
    found = ownlm.evaluate(workshop / "chat", items, chat=True)
    result = found["items.jsonl"]
    assert result.estimates["exact_match"].value == 1 and result.estimates["f1"].value == 1
    folder = found.save(tmp_path / "found")
    card = verify_artefact(folder, kind="evaluation")
    assert card.inputs["model"] == found.model.content and card.figures["items.jsonl"]["f1"] == 1
    written = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert written == found.to_json()
    assert written["asked_as"] == "chat" and written["model"]["arithmetic"] == "float32"
    assert written["model"]["name"] == "chat" and written["model"]["template"]
    lines = [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["answer"] for line in lines] == ["A small model.", "It is 7.", "It returns the number of items."]


def test_two_models_are_asked_the_same_items(workshop: Path, items: Path) -> None:
    found = ownlm.evaluate(workshop / "chat", [items, items], vs=load(workshop / "base"), limit=2)
    assert found.other is not None and found.other.name == "base"
    assert [result.task.name for result in found.results] == ["items.jsonl (1)", "items.jsonl (2)"]
    comparisons = found.results[0].comparisons
    assert comparisons is not None and comparisons["f1"].n == 2
    assert {one.verdict for one in comparisons.values()} <= {"better", "worse", "no evidence"}


def test_with_and_without_an_adapter(workshop: Path, items: Path, tmp_path: Path) -> None:
    base = load(workshop / "base", dtype="float32")
    adapter = LoraAdapter.new(base.decoder, LoraConfig(rank=2, alpha=64), modules=["q_proj", "down_proj"])
    for pair in adapter.each():
        pair.b_Or.data.fill_(0.5)
    (tmp_path / "adapter").mkdir()
    adapter.save(tmp_path / "adapter")
    found = ownlm.evaluate(base, items, vs=base.name, adapter=tmp_path / "adapter")
    assert found.model.adapter and found.other is not None and found.other.adapter is None
    comparisons = found.results[0].comparisons
    assert comparisons is not None and comparisons["answer_perplexity"].difference != 0
    assert base.adapter is None
    alone = ownlm.evaluate(base, items).results[0].estimates["answer_perplexity"].value
    assert comparisons["answer_perplexity"].other == pytest.approx(alone, rel=1e-6)


def test_the_command(workshop: Path, items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(workshop / "chat"), "--task", str(items), "--task", "group-swap", "--limit", "3"]
    assert run([*arguments, "--chat", "--vs", str(workshop / "chat"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "asked by its chat template" in said and "95 % interval" in said and "no evidence" in said
    assert "at chance (50.0%)" in said and (tmp_path / "out" / "results.json").is_file()
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"][0]["items"] == 3


def test_mistakes_are_told_before_a_model_is_opened(
    items: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model does not exist: whatever is said is said of something else."""
    for arguments, says in (
        (["--task", str(tmp_path / "absent")], "no such file"),
        (["--task", str(items), "--out", str(tmp_path)], "exists already"),
        (["--task", str(items), "--limit", "0"], "limit must be"),
    ):
        assert run(["evaluate", "no-such-model", *arguments]) == 2
        assert says in capsys.readouterr().err
