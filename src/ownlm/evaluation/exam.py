"""The exam: questions of five kinds, asked of a model and marked by rules that a person can check.

In:  a conversations folder with exam.jsonl, and `answer`, which maps questions to greedy answers.
Out: ExamResult: a Share for every kind, and every answer with its mark.

| kind | question | right is |
|---|---|---|
| fact | what a learnt name does, in wordings never trained | the docstring's sentence, and nothing else |
| expression | an expression never trained | the value as Python writes it |
| refusal | outside, wording and subject never trained | an answer that declines |
| near_miss | a name that does not exist | an answer that declines |
| in_scope | a fact or expression in yet other wordings | an answer that does not decline: its content is not marked |

Spaces, the kind of quotes, backticks and a last full stop do not count; case counts in expressions alone.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ownlm.artefact import read_card
from ownlm.errors import DamagedError
from ownlm.evaluation.statistics import Share

Answer = Callable[[list[str]], list[str]]

EXAM_NAME = "exam.jsonl"
KINDS = ("fact", "expression", "refusal", "in_scope", "near_miss")

# Somebody declines who says of himself that he lacks knowledge, learning, an answer or help, or whose reading
# did not reach there. "I do not feel" or "Return nothing" are no such words: the verb decides.
DECLINING = re.compile(
    r"\bI (?:do not|don't|cannot|can't|could not|couldn't|am not able to|am unable to|have not|haven't|did not|never) "
    r"(?:(?:really|yet|even|quite) )?"
    r"(?:know|answer|help|say|tell|learn|learned|learnt|read|seen|heard|explain|speak|give)\b"
    r"|\bI (?:know nothing|know only|only know|learned nothing|lack|am unable)\b"
    r"|\boutside what I\b|\bbeyond what I\b",
    re.IGNORECASE,
)


def declines(answer: str) -> bool:
    """Whether the first sentence of an answer declines; see DECLINING for the rule."""
    first = re.split(r"(?<=[.!?])\s+(?=[A-Z])", answer.strip(), maxsplit=1)[0]
    # "Sorry." and "No!" are no sentence of their own: look one further.
    if len(first.split()) <= 2:
        first = answer
    return DECLINING.search(first.replace("’", "'")) is not None


@dataclass(frozen=True, kw_only=True)
class Marked:
    """One question with what was answered."""

    id: str
    kind: str
    question: str
    expected: str
    answer: str
    right: bool


@dataclass(frozen=True, kw_only=True)
class ExamResult:
    """Every answer with its mark; kinds in the order of KINDS."""

    marked: tuple[Marked, ...]

    @property
    def shares(self) -> dict[str, Share]:
        """The share of right answers of every kind that was asked."""
        by_kind = {kind: [item.right for item in self.marked if item.kind == kind] for kind in KINDS}
        return {kind: Share(sum(marks), len(marks)) for kind, marks in by_kind.items() if marks}

    @property
    def wrongly_declined(self) -> Share:
        """In-scope questions that were declined: the fewer the better."""
        asked = self.shares.get("in_scope", Share(0, 0))
        return Share(asked.n - asked.right, asked.n)

    def failures(self, most: int = 3) -> list[Marked]:
        """Wrong answers to show, of as many kinds as there are, in the order asked."""
        wrong = [item for item in self.marked if not item.right]
        turn: dict[str, int] = {}
        ranked = []
        for item in wrong:
            turn[item.kind] = turn.get(item.kind, 0) + 1
            ranked.append((turn[item.kind], item))
        return [item for _, item in sorted(ranked, key=lambda pair: pair[0])[:most]]

    def to_json(self) -> dict[str, Any]:
        """For a report or card: shares with n and interval, and every answer."""
        return {
            "shares": {
                kind: {"right": share.right, "n": share.n, "interval": list(share.interval)}
                for kind, share in self.shares.items()
            },
            "answers": [vars(item) for item in self.marked],
        }


def read_exam(folder: Path) -> list[dict[str, Any]]:
    """The items of a conversations folder; none where it has no exam."""
    read_card(folder, kind="conversations")
    return read_items(folder / EXAM_NAME, ("id", "kind", "question", "answers"))


def run_exam(folder: Path, answer: Answer) -> ExamResult:
    """Ask every question of the folder's exam in one batch and mark the answers."""
    items = read_exam(folder)
    answers = answer([item["question"] for item in items]) if items else []
    assert len(answers) == len(items), f"{len(items)} questions, {len(answers)} answers"
    return ExamResult(marked=tuple(_mark(item, given) for item, given in zip(items, answers, strict=True)))


def read_items(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The JSON lines of `path`, each with all `keys`; an absent file holds none."""
    if not path.is_file():
        return []
    items = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            item = json.loads(line)
        except ValueError:
            item = None
        if not isinstance(item, dict) or any(key not in item for key in keys):
            raise DamagedError(f"{path}:{number} is no item with {', '.join(keys)}; make the conversations anew")
        items.append(item)
    return items


def _mark(item: dict[str, Any], answer: str) -> Marked:
    kind = item["kind"]
    if kind not in KINDS:
        raise DamagedError(f"exam item {item['id']} is of the unknown kind {kind!r}; make the conversations anew")
    if kind in ("refusal", "near_miss"):
        expected, right = "(an answer that declines)", declines(answer)
    elif kind == "in_scope":
        expected, right = item["answers"][0], bool(answer.strip()) and not declines(answer)
    elif kind == "expression":
        # Case counts here: 'fox'.upper() is not 'fox'.
        expected = item["answers"][0]
        right = _spaced(answer) in {_spaced(accepted) for accepted in item["answers"]}
    else:
        expected = item["answers"][0]
        right = _spaced(answer).lower() in {_spaced(accepted).lower() for accepted in item["answers"]}
    return Marked(id=item["id"], kind=kind, question=item["question"], expected=expected, answer=answer, right=right)


def _spaced(text: str) -> str:
    """What counts of an answer: see the last lines of this module's docstring."""
    return " ".join(text.replace("`", "").replace('"', "'").split()).rstrip(".").rstrip()
