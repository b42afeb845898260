"""Choose the docstring: what pretraining is for, measured on functions that no tuning spoke of.

In:  a conversations folder with choose.jsonl, and `score`, which maps (question, answer) texts to log-probabilities
     in nats. Out: the Share of items whose right option scores best; chance is one in four.

    score of an option = log p(option | question about the name) - log p(option | question about a neutral name)

The second term takes away what makes a sentence likely anyway (short, common words): "domain-conditional PMI",
Holtzman et al., "Surface Form Competition" (arXiv:2104.08315).
"""

from collections.abc import Callable
from pathlib import Path

from ownlm.artefact import read_card
from ownlm.evaluation.exam import read_items
from ownlm.evaluation.statistics import Share, sole_best

Score = Callable[[list[tuple[str, str]]], list[float]]

CHOOSE_NAME = "choose.jsonl"


def run_choose(folder: Path, score: Score) -> Share:
    """The share of right choices; 0 of 0 where the folder has no choose.jsonl."""
    marks = mark_choices(folder, score)
    return Share(sum(marks), len(marks))


def mark_choices(folder: Path, score: Score) -> list[bool]:
    """Item by item, whether the right option scored best (a tie is wrong), for paired comparisons."""
    read_card(folder, kind="conversations")
    items = read_items(folder / CHOOSE_NAME, ("question", "neutral_question", "options", "right"))
    pairs = [
        (question, option)
        for item in items
        for option in item["options"]
        for question in (item["question"], item["neutral_question"])
    ]
    scores = iter(score(pairs) if pairs else [])
    marks = []
    for item in items:
        gains = [next(scores) - next(scores) for _ in item["options"]]
        marks.append(sole_best(gains) == item["right"])
    return marks
