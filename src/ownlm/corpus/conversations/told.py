"""What a person is told of a conversations artefact: how much there is, what was left out, what is personal.

In:  the figures of its card. Out: lines to print.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ownlm.corpus.conversations.problems import PROBLEMS_FILE
from ownlm.corpus.privacy import WARNING
from ownlm.personal_data import KINDS


def told(figures: Mapping[str, Any]) -> Iterator[str]:
    """Of the user's own conversations; made ones have little to tell."""
    count, held = figures["conversations"], figures["validation"]
    documents = f", {number:,} of them documents" if (number := figures.get("documents")) else ""
    yield f"{_lines(count + held)}{documents}: {count:,} to learn from, {held:,} held out"
    if equal := figures.get("equal_lines"):
        yield f"{_lines(equal)} repeating another; equal ones are on one side"
    if near := figures.get("near_duplicates"):
        together = figures["near_duplicates_kept_together"]
        yield f"{_lines(near)} nearly repeating another; " + (
            "such are on one side"
            if together
            else "too many to keep on one side, so what is held out is like what is learned"
        )
    for problem in figures.get("problems", ()):
        yield f"{_lines(problem['count'])} {problem['action']}: {problem['kind']}"
        yield from (f"  {first}" for first in problem["first"])
        if (more := problem["count"] - len(problem["first"])) > 0:
            yield f"  and {more:,} more in {PROBLEMS_FILE}"
    if (counts := figures.get("personal_data")) is not None:
        yield from told_personal(counts)


def told_personal(counts: Mapping[str, Any]) -> Iterator[str]:
    """The kinds of personal data and where they begin, or that none of them were found."""
    if counts:
        kinds = ", ".join(f"{found['count']:,} {kind} (first: {found['first']})" for kind, found in counts.items())
        yield f"looks like personal data: {kinds}"
        yield f"  {WARNING}"
    else:
        yield f"nothing looks like {', '.join(KINDS[:-1])} or {KINDS[-1]}"
    yield "  names, addresses and what only the meaning tells are not looked for"


def _lines(count: int) -> str:
    return f"{count:,} line" if count == 1 else f"{count:,} lines"
