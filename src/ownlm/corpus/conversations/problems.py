"""What is wrong with a line of the user's conversations, and what became of it: counted, named, never silent.

In:  problems as the reading meets them. Out: problems.jsonl, one object a line; counts by kind; or one error.

A line that cannot be used is left out, and named; where more than one in twenty are bad, the file is not what it is
taken for, and all of it is refused. `strict` refuses at the first. The user's file itself is never changed.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ownlm.errors import OwnlmError

MOST_BAD_SHARE = 0.05
PROBLEMS_FILE = "problems.jsonl"
# What the card names, and the user is told, of each kind.
_TOLD = 3

Action = Literal["left out", "mended", "kept"]


class BadLineError(Exception):
    """A line that cannot be used: `kind` as docs/finetuning.md lists it, `why` in words."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind, self.why = kind, why


@dataclass(frozen=True, kw_only=True)
class Problem:
    """`line` counts from 1: a line of a .jsonl file, an entry of a .json array, a row of a table; 0: the file."""

    file: str
    line: int
    kind: str
    why: str
    action: Action

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(kw_only=True)
class Problems:
    """All of a reading's problems. `lines` counts what was read, good or bad."""

    strict: bool = False
    lines: int = 0
    found: list[Problem] = field(default_factory=list)

    def add(self, file: str, line: int, kind: str, why: str, action: Action = "left out") -> None:
        problem = Problem(file=file, line=line, kind=kind, why=why, action=action)
        if self.strict and action == "left out":
            raise OwnlmError(f"{problem.place}: {why} ({kind}); mend it, or leave --strict out")
        self.found.append(problem)

    def refuse_too_many(self) -> None:
        """OwnlmError where more lines are bad than a file of conversations has."""
        bad = [problem for problem in self.found if problem.action == "left out" and problem.line]
        if len(bad) > MOST_BAD_SHARE * self.lines:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in Counter(each.kind for each in bad).most_common())
            raise OwnlmError(
                f"{len(bad):,} of {self.lines:,} lines cannot be used ({kinds}), the first {bad[0].place}: "
                f"{bad[0].why}; mend the file, up to {MOST_BAD_SHARE:.0%} may be bad"
            )

    def figures(self) -> list[dict[str, Any]]:
        """For the card: each kind, how often, what became of it, and where the first few stand."""
        groups: dict[tuple[str, str], list[Problem]] = {}
        for problem in self.found:
            groups.setdefault((problem.kind, problem.action), []).append(problem)
        return [
            {
                "kind": kind,
                "count": len(group),
                "action": action,
                "first": [f"{problem.place}: {problem.why}" for problem in group[:_TOLD]],
            }
            for (kind, action), group in sorted(groups.items(), key=lambda entry: -len(entry[1]))
        ]

    def entries(self) -> Iterator[dict[str, Any]]:
        """The lines of problems.jsonl."""
        for problem in self.found:
            yield vars(problem)
