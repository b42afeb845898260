"""Speculation: guess the next tokens cheaply, and let the model check them all in one step.

    text     ... the cat sat on the mat. Then the cat          drafts: sat on the mat
    drawn                                         sat on a     two were right: three tokens in one step

A guess only saves time. The engine draws at every place as it would have without it, with the request's own random
numbers, and a guess counts where it is what was drawn: so the answer is the same with and without, greedy or not.

Sources: arXiv:2211.17192, arXiv:2302.01318 (checking many tokens at once), prompt lookup (n-grams of the text itself).
"""

from collections.abc import Sequence as Ids
from typing import Protocol
from weakref import WeakKeyDictionary

from ownlm.engine.sequence import Sequence

# The first guess is short; each that was wholly right doubles the next.
FIRST = 4


class Speculator(Protocol):
    def propose(self, sequences: Ids[Sequence]) -> list[list[int]]:
        """How each text may go on; [] where there is no guess."""
        ...

    def learn(self, sequence: Sequence, drafted: int, right: int) -> None:
        """So many of the guessed tokens were right."""
        ...

    def forget(self, sequence: Sequence) -> None:
        """The text has ended."""
        ...


class PromptLookup:
    """What followed the last tokens when they stood in the text before: for texts that copy, edit or quote.

    `longest` and `shortest`: how many tokens must be the same; `most`: tokens guessed at once.
    """

    def __init__(self, *, longest: int = 3, shortest: int = 2, most: int = 16) -> None:
        self.sizes, self.most = range(longest, shortest - 1, -1), most
        self._texts: WeakKeyDictionary[Sequence, _Grams] = WeakKeyDictionary()

    def propose(self, sequences: Ids[Sequence]) -> list[list[int]]:
        return [self._guess(sequence) for sequence in sequences]

    def learn(self, sequence: Sequence, drafted: int, right: int) -> None:
        grams = self._texts[sequence]
        grams.next = min(2 * drafted, self.most) if right == drafted else max(FIRST, right)

    def forget(self, sequence: Sequence) -> None:
        self._texts.pop(sequence, None)

    def _guess(self, sequence: Sequence) -> list[int]:
        grams = self._texts.setdefault(sequence, _Grams())
        tokens = sequence.tokens
        for place in range(grams.read, len(tokens)):
            for size in self.sizes:
                if place >= size:
                    grams.followed_at[tuple(tokens[place - size : place])] = place
        grams.read = len(tokens)
        for size in self.sizes:
            follower = grams.followed_at.get(tuple(tokens[-size:]))
            if follower is not None:
                return tokens[follower : follower + grams.next]
        return []


class _Grams:
    """Where each run of tokens was last followed by another, in the first `read` tokens of a text."""

    def __init__(self) -> None:
        self.followed_at: dict[tuple[int, ...], int] = {}
        self.read = 0
        self.next = FIRST
