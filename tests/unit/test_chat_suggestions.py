"""What the chat proposes to try is what the model got right in its exam."""

import json
from pathlib import Path

from ownlm.cli.chat import passed_questions
from ownlm.evaluation import ExamResult, Marked
from ownlm.journey.results import proposals


def marked(kind: str, number: int, *, right: bool) -> Marked:
    return Marked(id=f"{kind}-{number}", kind=kind, question=f"{kind} {number}?", expected="", answer="a", right=right)


def test_only_right_ones_are_proposed_a_few_of_each_kind() -> None:
    items = [marked("fact", 0, right=False), marked("fact", 1, right=True)]
    for number in range(4):
        items += [marked(kind, number, right=number > 0) for kind in ("expression", "refusal", "in_scope", "near_miss")]
    result = ExamResult(marked=tuple(items))
    questions = [item["question"] for item in proposals(result)]
    assert questions == ["fact 1?", "expression 1?", "expression 2?", "refusal 1?"]
    assert proposals(ExamResult(marked=())) == []


def test_they_come_from_the_summary_of_the_run(tmp_path: Path) -> None:
    for name in ("base", "chat", "control"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert passed_questions(tmp_path) == (), "a run that has not ended"
    for damaged in ("{", "[]", '{"exam": {}}', '{"exam": {"passed": 3}, "paths": {"model": "chat"}}'):
        (tmp_path / "summary.json").write_text(damaged)
        assert passed_questions(tmp_path) == ()
    summary = {"exam": {"passed": [{"question": "What does len do?"}]}, "paths": {"model": "chat"}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert passed_questions(tmp_path) == passed_questions(tmp_path / "chat") == ("What does len do?",)
    assert passed_questions(tmp_path / "control") == passed_questions(tmp_path / "base") == ()
