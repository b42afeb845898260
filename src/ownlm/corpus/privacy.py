"""Personal data in a corpus, counted by kind, before a model learns it by heart.

In:  texts. Out: how many of each kind, and where the first one stands; never the data itself, for cards travel.
"""

from collections.abc import Iterable
from typing import Any

from ownlm.personal_data import KINDS, find_personal_data

WARNING = "a model can repeat what it read, word for word: take out what it must not say"


def count_personal_data(texts: Iterable[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """Of (place, text) pairs: {kind: {"count": how many, "first": the first place}}, the kinds that occur."""
    counts: dict[str, dict[str, Any]] = {}
    for place, text in texts:
        for found in find_personal_data(text):
            counts.setdefault(found.kind, {"count": 0, "first": place})["count"] += 1
    return {kind: counts[kind] for kind in KINDS if kind in counts}
