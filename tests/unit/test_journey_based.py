"""The quickstart's second door: an open model tuned on a folder, asked before and after, then opened as any model."""

from pathlib import Path
from typing import Any

import pytest

from ownlm.artefact import read_card
from ownlm.corpus.conversations import ConversationsConfig, build_conversations
from ownlm.errors import OwnlmError
from ownlm.evaluation import Evaluation
from ownlm.journey import Narrator, QuickstartOptions, quickstart
from ownlm.journey.based import based_recipe
from ownlm.journey.stages import is_finished
from ownlm.model.locate import locate

SET = ("lora.rank=2", "train.context=64", "measure_items=2", "train.rows=2")


class Listener(Narrator):
    def __init__(self) -> None:
        self.stages_told: list[tuple[int, int]] = []
        self.lines: list[str] = []
        self.found: list[Evaluation] = []

    def stage(self, number: int, title: str, why: str) -> None:
        self.stages_told.append((number, self.stages))

    def say(self, line: str) -> None:
        self.lines.append(line)

    def measured(self, evaluation: Evaluation) -> None:
        self.found.append(evaluation)


def options(workshop: Path, **changes: Any) -> QuickstartOptions:
    return QuickstartOptions(**({"base": str(workshop / "chat"), "steps": 2, "set": SET} | changes))


def folder_of(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir(exist_ok=True)
    for number in range(30):
        text = f"The small house {number} is a place where {number} old dogs live in the rain and see a red cat.\n"
        (folder / f"{number}.txt").write_text(text * 3)
    return folder


def test_documents_in_a_chat_out(workshop: Path, tmp_path: Path) -> None:
    told = Listener()
    asked = options(workshop, text=str(folder_of(tmp_path)))
    run = quickstart(tmp_path / "run", asked, narrator=told)
    assert told.stages_told == [(1, 3), (2, 3), (3, 3)]
    assert any("held out" in line for line in told.lines) and any("not looked for" in line for line in told.lines)
    assert told.found[0]["conversations"].comparisons is not None
    assert locate(run) == run / "chat"
    again = Listener()
    quickstart(run, asked, narrator=again)
    assert not again.found
    with pytest.raises(OwnlmError, match="begun from an open model; go on with it by --base"):
        quickstart(run, QuickstartOptions(steps=1))
    with pytest.raises(OwnlmError, match="begun with another recipe"):
        quickstart(run, options(workshop, steps=3, text=asked.text))
    with pytest.raises(OwnlmError, match="begun with other texts"):
        quickstart(run, options(workshop, text=str(tmp_path)))
    assert is_finished(run)


def test_conversations_that_are_made_already_are_taken(workshop: Path, tmp_path: Path) -> None:
    data = tmp_path / "talks.jsonl"
    data.write_text("".join(f'{{"prompt": "Where is cat {n}?", "completion": "On mat {n}."}}\n' for n in range(40)))
    made = build_conversations(tmp_path / "made", ConversationsConfig(chat=data))
    run = quickstart(tmp_path / "run", options(workshop, chat=made))
    assert read_card(run / "chat").inputs["conversations"] == read_card(made).content
    with pytest.raises(OwnlmError, match="begun from an open model"):
        quickstart(run, QuickstartOptions(steps=1))


def test_a_folder_of_other_files_is_refused(workshop: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    with pytest.raises(OwnlmError, match="holds something else"):
        quickstart(folder, options(workshop, text=str(folder)))


def test_a_folder_of_any_name_is_taken() -> None:
    for name in ("my run #1", "a: b", "[x]", "größer 😀"):
        recipe = based_recipe(Path(name), QuickstartOptions(base="smollm2"))
        assert (recipe.out, recipe.conversations) == (f"{name}/chat", f"{name}/conversations")
    with pytest.raises(OwnlmError, match="the folder by --out"):
        based_recipe(Path("run"), QuickstartOptions(base="smollm2", set=("out=elsewhere",)))


def test_the_first_doors_options_are_refused(workshop: Path, tmp_path: Path) -> None:
    for wrong in ({"depth": 2}, {"watch": ("The",)}):
        with pytest.raises(OwnlmError, match="leave it out beside --base"):
            quickstart(tmp_path / "run", options(workshop, **wrong))
    with pytest.raises(OwnlmError, match="both say how long"):
        quickstart(tmp_path / "run", options(workshop, minutes=1.0))
    with pytest.raises(OwnlmError, match="both say what is learned"):
        quickstart(tmp_path / "run", options(workshop, text="a", chat=Path("b")))
    with pytest.raises(OwnlmError, match="named by --text or --chat"):
        quickstart(tmp_path / "run", options(workshop, set=("conversations=a",)))
    assert not (tmp_path / "run").exists()
