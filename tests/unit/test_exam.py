"""The exam's marks, with made-up models: perfect, silent, always declining."""

import json
from pathlib import Path

import pytest

from ownlm.artefact import write_artefact
from ownlm.errors import DamagedError
from ownlm.evaluation import Share, declines, mark_choices, run_choose, run_exam

ITEMS = [
    {"id": "a", "kind": "fact", "question": "What does len do?", "answers": ["Return the number of items."]},
    {"id": "b", "kind": "expression", "question": "'fox'.upper()", "answers": ["'FOX'"]},
    {"id": "c", "kind": "refusal", "question": "Will it rain?", "answers": []},
    {"id": "d", "kind": "near_miss", "question": "list.shuffle?", "answers": []},
    {"id": "e", "kind": "in_scope", "question": "and len?", "answers": ["Return the number of items."]},
]
CHOICES = [
    {"id": "0", "question": "a.b?", "neutral_question": "n?", "options": ["w", "x", "y", "z"], "right": 2},
    {"id": "1", "question": "c.d?", "neutral_question": "n?", "options": ["w", "x", "y", "z"], "right": 0},
]
REFUSAL = "I do not know that, because I only read Python."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "conversations"
    with write_artefact(out, "conversations", how={}) as draft:
        (draft.path / "exam.jsonl").write_text("\n".join(map(json.dumps, ITEMS)), encoding="utf-8")
        (draft.path / "choose.jsonl").write_text("\n".join(map(json.dumps, CHOICES)), encoding="utf-8")
    return out


def test_a_perfect_model(folder: Path) -> None:
    answers = ["return the  number of items", ' "FOX" ', REFUSAL, REFUSAL, "It counts things."]
    result = run_exam(folder, lambda questions: answers)
    assert all(share == Share(1, 1) for share in result.shares.values())
    assert result.wrongly_declined == Share(0, 1)
    assert result.failures() == []


def test_a_silent_model_gets_nothing(folder: Path) -> None:
    result = run_exam(folder, lambda questions: [""] * len(questions))
    assert all(share == Share(0, 1) for share in result.shares.values())
    assert [item.kind for item in result.failures(3)] == ["fact", "expression", "refusal"]
    assert json.loads(json.dumps(result.to_json()))["shares"]["fact"]["n"] == 1


def test_a_model_that_always_declines(folder: Path) -> None:
    result = run_exam(folder, lambda questions: [REFUSAL] * len(questions))
    assert result.shares["refusal"] == result.shares["near_miss"] == Share(1, 1)
    assert result.shares["fact"] == Share(0, 1)
    assert result.wrongly_declined == Share(1, 1)


def test_case_counts_in_expressions(folder: Path) -> None:
    result = run_exam(folder, lambda questions: ["'fox'"] * len(questions))
    assert result.shares["expression"] == Share(0, 1)


def test_longer_answers_than_the_sentence_are_wrong(folder: Path) -> None:
    result = run_exam(folder, lambda questions: ["Return the number of items. I do not know."] * 5)
    assert result.shares["fact"] == Share(0, 1)


@pytest.mark.parametrize(
    "answer",
    [
        "I don't know.",
        "Sorry. I cannot help with that.",
        "No! I can’t answer this one.",
        "That lies outside what I learned; ask me about len.",
        "I have never heard of it; I do not know `x.y`.",
        "I know nothing about the weather.",
    ],
)
def test_answers_that_decline(answer: str) -> None:
    assert declines(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Return None if it cannot be found.",
        "No. I am a program that continues text; I do not feel or think as people do.",
        "I am well, thank you. I do not know you.",
        "I can say what many functions of Python do, and what short expressions give.",
        "Return True if the object does not know its length.",
        "[1, 2]",
        "",
    ],
)
def test_answers_that_do_not_decline(answer: str) -> None:
    assert not declines(answer)


def test_a_damaged_exam_is_named_by_line(folder: Path) -> None:
    (folder / "exam.jsonl").write_text('{"id": "a"}\n', encoding="utf-8")
    with pytest.raises(DamagedError, match=r"exam\.jsonl:1"):
        run_exam(folder, lambda questions: [])


def test_choices_count_what_the_name_adds(folder: Path) -> None:
    def score(pairs: list[tuple[str, str]]) -> list[float]:
        # "w" is likely anywhere; "y" is likelier after the first name than elsewhere.
        return [5.0 * (o == "w") + 1.0 * (o == "y" and q.startswith("a.b")) for q, o in pairs]

    assert mark_choices(folder, score) == [True, False]
    assert run_choose(folder, score) == Share(1, 2)
    assert run_choose(folder, lambda pairs: [0.0] * len(pairs)) == Share(0, 2)
