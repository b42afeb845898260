"""Files of items: every form, the published sets, and the line that is wrong."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ownlm.errors import OwnlmError
from ownlm.evaluation.read_task import read_task
from ownlm.evaluation.tasks import Answers, Choices, GroupSwap, HeldOutText, Task, Translation


def write(path: Path, *rows: object) -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def read(tmp_path: Path, *rows: object, name: str = "", file: str = "mine.jsonl", limit: int | None = None) -> Task:
    path = write(tmp_path / file, *rows)
    return read_task(f"{name}={path}" if name else path, limit=limit)


CHOICES = {"question": "Where?", "choices": ["here", "there"], "answer": 1}


@pytest.mark.parametrize("answer", [1, "there", "B"])
def test_choices_by_place_text_or_letter(tmp_path: Path, answer: object) -> None:
    task = read(tmp_path, CHOICES | {"answer": answer}, "", {"prompt": "Go", "choices": ["a", "b", "c"], "answer": 0})
    assert isinstance(task, Choices) and [item.answer for item in task.items] == [1, 0]
    assert task.items[0].prompt.text == "Question: Where?\nAnswer:"
    assert task.items[0].prompt.messages == ({"role": "user", "content": "Where?"},)
    assert task.items[1].prompt.text == "Go" and task.name == "mine.jsonl" and list(task.data) == ["mine.jsonl"]


@pytest.mark.parametrize(
    ("row", "answers"),
    [
        ({"prompt": "2 + 2 =", "answer": 4}, ("4",)),
        ({"question": "Who?", "answers": ["I", "me"]}, ("I", "me")),
        ({"prompt": "Once", "completion": " upon"}, (" upon",)),
        ({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}, ("Ho",)),
        ({"messages": [{"role": "user", "content": "Hi"}], "answer": "Ho"}, ("Ho",)),
    ],
)
def test_answers_in_every_form(tmp_path: Path, row: dict[str, Any], answers: tuple[str, ...]) -> None:
    task = read(tmp_path, row, file="mine.jsonl.gz")
    assert type(task) is Answers and task.items[0].answers == answers
    assert task.items[0].prompt.messages[-1]["role"] == "user"
    translation = read_task(f"translation={write(tmp_path / 'mine.jsonl', row)}", max_tokens=7)
    assert type(translation) is Translation and translation.max_tokens == 7


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([CHOICES, "{"], r"mine\.jsonl:2 is no JSON"),
        ([CHOICES, "[1]"], r"mine\.jsonl:2 holds a list"),
        ([CHOICES, CHOICES | {"answer": 2}], r"mine\.jsonl:2: its answer is none of its 2 choices"),
        ([CHOICES, CHOICES | {"answer": True}], "its answer is none"),
        ([CHOICES, CHOICES | {"choices": ["one"]}], "at least two"),
        ([CHOICES, CHOICES | {"choices": ["one", ""]}], "its choice is empty"),
        ([CHOICES, {"choices": ["a", "b"], "answer": 0}], "none of question, prompt"),
        ([{"prompt": "a"}], 'no "answer"'),
        ([{"messages": [{"role": "user"}], "answer": "a"}], r"mine\.jsonl:1: its messages must be"),
        ([{"prompt": "a", "answers": []}], "answers are none"),
        ([{"text": "a"}, {"txt": "b"}], r'mine\.jsonl:2: it has no "text"'),
        ([], "holds nothing to ask; give"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, rows: list[object], says: str) -> None:
    with pytest.raises(OwnlmError, match=says):
        read(tmp_path, *rows)


def test_a_file_that_is_damaged_or_absent(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.jsonl.gz", CHOICES)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(OwnlmError, match="damaged after line"):
        read_task(path)
    with pytest.raises(OwnlmError, match="no such file"):
        read_task(tmp_path / "absent.jsonl")
    with pytest.raises(OwnlmError, match="write piqa=FILE"):
        read_task("piqa")
    with pytest.raises(OwnlmError, match="limit must be"):
        read_task(path, limit=0)
    with pytest.raises(OwnlmError, match="max_tokens must be at least 1, got 0"):
        read_task(path, max_tokens=0)
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(OwnlmError, match="does not end in"):
        read_task(f"piqa={tmp_path / 'x.txt'}")


@pytest.mark.parametrize(
    ("name", "row", "prompt", "choices", "answer"),
    [
        (
            "hellaswag",
            {"activity_label": "Roof", "ctx_a": "A man sits. [x] Then", "ctx_b": "he", "endings": ["a", "b [title] c"]}
            | {"label": "1"},
            "Roof: A man sits. Then He",
            ("a", "b. c"),
            1,
        ),
        ("hellaswag", {"query": "Roof: he", "choices": ["a", "b"], "gold": 1}, "Roof: he", ("a", "b"), 1),
        (
            "arc-easy",
            {"question": {"stem": "Why?", "choices": [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}]}}
            | {"answerKey": "2"},
            "Question: Why?\nAnswer:",
            ("a", "b"),
            1,
        ),
        (
            "arc-challenge",
            {"question": "Why?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"},
            "Question: Why?\nAnswer:",
            ("a", "b"),
            0,
        ),
        (
            "arc-easy",
            {"query": "Question: Why?", "choices": ["a", "b"], "gold": 0},
            "Question: Why?\nAnswer:",
            ("a", "b"),
            0,
        ),
        ("piqa", {"goal": "Go", "sol1": "a", "sol2": "b", "label": 1}, "Question: Go\nAnswer:", ("a", "b"), 1),
        (
            "piqa",
            {"query": "Question: Go\n", "choices": ["a", "b"], "gold": 1},
            "Question: Go\nAnswer:",
            ("a", "b"),
            1,
        ),
    ],
)
def test_sets_as_they_are_published(
    tmp_path: Path, name: str, row: dict[str, Any], prompt: str, choices: tuple[str, ...], answer: int
) -> None:
    task = read(tmp_path, row, row, name=name, limit=1)
    (item,) = task.items
    assert (item.prompt.text, item.choices, item.answer, task.name) == (prompt, choices, answer, name)


def test_sarcasm_and_group_swaps(tmp_path: Path) -> None:
    rows = [{"input": [{"role": "user", "content": f"head {n}"}], "ideal": str(n % 2)} for n in range(8)]
    assert [item.answer for item in read(tmp_path, *rows, name="sarcasm", limit=4).items] == [0, 1, 0, 1]
    with pytest.raises(OwnlmError, match=r"mine\.jsonl:1.*ideal"):
        read(tmp_path, {"input": [], "ideal": "1"}, name="sarcasm")
    assert len(read_task("group-swap").items) == 20
    task = read(tmp_path, {"sentence": "The {} sat.", "groups": ["cat", "dog"]}, name="group-swap")
    assert isinstance(task, GroupSwap) and task.items[0].groups == ("cat", "dog")
    with pytest.raises(OwnlmError, match="words behind it"):
        read(tmp_path, {"sentence": "The {}", "groups": ["cat", "dog"]}, name="group-swap")


def test_text_from_files_folders_and_artefacts(tmp_path: Path, workshop: Path) -> None:
    (tmp_path / "a.txt").write_text("first\n", encoding="utf-8")
    write(tmp_path / "b.jsonl", {"text": "second", "id": 7}, {"text": ""})
    task = read_task(tmp_path)
    assert isinstance(task, HeldOutText) and [item.text for item in task.items] == ["first\n", "second"]
    assert list(task.data) == ["a.txt", "b.jsonl"]
    long = tmp_path / "long.md"
    long.write_text("x" * 1200 + "\n" + "y" * 1200 + "\nz", encoding="utf-8")
    assert [len(item.text) for item in read_task(long, limit=1).items] == [1201]
    assert len(read_task(workshop / "corpus").items) == 3  # held out
    held_out = read_task(workshop / "conversations")
    assert isinstance(held_out, Answers) and held_out.items[0].answers == ("It returns the number of items.",)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(OwnlmError, match=r"latin\.txt is no UTF-8 text"):
        read_task(tmp_path)
