"""Held-out conversations that are a test: what is alike stays on one side, and chance comes from the words alone.

In:  lines, each with a group or none. Out: training and validation; every line is in one of them.

    alike  =  equal but for white space and case  |  near-duplicates (MinHash)  |  of one group
    sets of lines that are alike, in the order of their hashes: the first ones that make one in twenty are held out

Before tokenising, and by hash: the order is one of the words and the seed, wherever in the file a line stands.
"""

import random
from collections.abc import Sequence
from typing import Any

from ownlm.corpus.conversations.check import wording
from ownlm.corpus.dedup import near_pairs, text_fingerprint
from ownlm.corpus.split import fraction
from ownlm.errors import OwnlmError

VALIDATION_SHARE = 0.05
NEAR_DUPLICATE = 0.7
# So many alike are no accident: the words that they share are a form, which all lines have.
_MOST_ALIKE = 0.5

Line = dict[str, Any]


def hold_out(
    lines: Sequence[Line], groups: Sequence[str | None], seed: int
) -> tuple[list[Line], list[Line], dict[str, Any]]:
    """(training, validation, figures): about one in twenty lines is held out, at least one."""
    words = [wording(line) for line in lines]
    sets = _Sets(len(lines))
    prints = [text_fingerprint(text) for text in words]
    equal = sets.join(prints)
    named = sets.join(groups)
    if len(sets.members()) < 2:
        reason = "are of one group; name another --group" if named else "are the same; give at least two different ones"
        raise OwnlmError(f"all conversations of --chat {reason}")
    before = sets.copy()
    distinct = list({print_: place for place, print_ in enumerate(prints)}.values())
    pairs = near_pairs([words[place] for place in distinct], NEAR_DUPLICATE)
    near = sum(sets.unite(distinct[one], distinct[other]) for one, other in pairs)
    too_alike = max(map(len, sets.members())) > _MOST_ALIKE * len(lines) and near > 0
    if too_alike:
        sets = before
    held = _choose(sets.members(), [print_.hex() for print_ in prints], len(lines), seed)
    training = [line for place, line in enumerate(lines) if place not in held]
    random.Random(seed).shuffle(training)
    figures = {"equal_lines": equal, "near_duplicates": near, "near_duplicates_kept_together": not too_alike}
    return training, [lines[place] for place in sorted(held)], figures


def _choose(sets: list[list[int]], names: Sequence[str], total: int, seed: int) -> set[int]:
    wanted = max(1, round(total * VALIDATION_SHARE))
    by_chance = sorted(sets, key=lambda members: fraction(seed, "split", min(names[place] for place in members)))
    held: set[int] = set()
    for members in by_chance:
        # A set much larger than what is wanted would be most of the validation, or of the lines.
        if len(held) < wanted and len(members) <= 2 * (wanted - len(held)):
            held.update(members)
    smallest: list[int] = min(by_chance, key=len)
    return held or set(smallest)


class _Sets:
    """Which lines are alike (union-find)."""

    def __init__(self, count: int) -> None:
        self.parents = list(range(count))

    def copy(self) -> "_Sets":
        other = _Sets(0)
        other.parents = list(self.parents)
        return other

    def root(self, place: int) -> int:
        while self.parents[place] != place:
            self.parents[place] = self.parents[self.parents[place]]
            place = self.parents[place]
        return place

    def unite(self, one: int, other: int) -> bool:
        """Whether they were apart."""
        first, second = sorted((self.root(one), self.root(other)))
        self.parents[second] = first
        return first != second

    def join(self, keys: Sequence[Any]) -> int:
        """Unite those of the same key (None is none); how many came to an earlier one."""
        first: dict[Any, int] = {}
        return sum(
            self.unite(place, first.setdefault(key, place)) or first[key] != place
            for place, key in enumerate(keys)
            if key is not None
        )

    def members(self) -> list[list[int]]:
        found: dict[int, list[int]] = {}
        for place in range(len(self.parents)):
            found.setdefault(self.root(place), []).append(place)
        return list(found.values())
