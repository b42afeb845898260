"""From conversations to rows: packed whole, loss on the assistant's tokens alone.

    row   [conversation 4      ][conversation 0 ][conversation 7          ] . .
    loss         ^^^^     ^^^^          ^^^^^^^            ^^   ^^^^^

A conversation longer than a row keeps its end, where the answers are; what is shortened is counted.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ownlm.errors import DamagedError, OwnlmError
from ownlm.opened.files import Template
from ownlm.train.batch import IGNORE, Batch
from ownlm.train.pack import next_token_batch

# Open rows that a conversation may still join: more fills rows better and costs time.
_OPEN_ROWS = 8


@dataclass(frozen=True, kw_only=True)
class Example:
    """One conversation: its ids, and for each whether it is trained."""

    ids: np.ndarray
    trained: np.ndarray


@dataclass(kw_only=True)
class Counts:
    """What became of the conversations, for the run's record and the user."""

    conversations: int = 0
    shortened: int = 0
    without_target: int = 0
    tokens: int = 0
    trained_tokens: int = 0


def read_conversations(path: Path) -> Iterator[list[Mapping[str, Any]]]:
    """Message lists of a .jsonl file of {"messages": [...]} lines."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield json.loads(line)["messages"]
            except (ValueError, KeyError, TypeError) as error:
                raise DamagedError(f'{path}:{number}: no {{"messages": [...]}} line ({error}); mend it') from None


def render_examples(
    conversations: Iterable[Sequence[Mapping[str, Any]]], template: Template, *, context: int
) -> tuple[list[Example], Counts]:
    """Every conversation that trains something, as ids and mask; at most context + 1 ids each."""
    examples, counts = [], Counts()
    for messages in conversations:
        rendered = template.render(messages)
        counts.conversations += 1
        if len(rendered.ids) > context + 1:
            counts.shortened += 1
        ids = np.asarray(rendered.ids[-context - 1 :], dtype=np.int64)
        trained = np.asarray(rendered.trained[-context - 1 :], dtype=bool)
        if not trained[1:].any():
            counts.without_target += 1
            continue
        counts.tokens += len(ids)
        counts.trained_tokens += int(trained[1:].sum())
        examples.append(Example(ids=ids, trained=trained))
    if not examples:
        raise OwnlmError("no conversation has an assistant's turn to train on; give messages with the role assistant")
    return examples, counts


class ConversationRows:
    """Rows of packed conversations, in an order of their own each epoch: a function of (seed, row number)."""

    def __init__(self, examples: Sequence[Example], *, context: int, seed: int) -> None:
        self.examples, self.context, self.seed = examples, context, seed
        self._epoch, self._first_row = -1, 0
        self._packed: list[list[int]] = []

    def batch(self, first_row: int, rows: int) -> Batch:
        tokens = np.zeros((rows, self.context + 1), dtype=np.int64)
        numbers = np.full((rows, self.context + 1), -1, dtype=np.int64)
        trained = np.zeros((rows, self.context + 1), dtype=bool)
        for row in range(rows):
            filled = 0
            for index in self._members(first_row + row):
                example = self.examples[index]
                end = filled + len(example.ids)
                tokens[row, filled:end] = example.ids
                trained[row, filled:end] = example.trained
                numbers[row, filled:end] = index
                filled = end
        batch = next_token_batch(tokens, numbers)
        # A conversation's own first token follows from nothing, and only trained ones are targets.
        batch.targets_BT[~torch.from_numpy(trained[:, 1:].copy())] = IGNORE
        return batch

    def _members(self, row: int) -> list[int]:
        if row < self._first_row:
            self._epoch, self._first_row, self._packed = -1, 0, []
        while row >= self._first_row + len(self._packed):
            self._first_row += len(self._packed)
            self._epoch += 1
            order = np.random.default_rng((self.seed, self._epoch)).permutation(len(self.examples))
            self._packed = pack([len(example.ids) for example in self.examples], order, self.context + 1)
        return self._packed[row - self._first_row]


def pack(lengths: Sequence[int], order: Iterable[int], room: int) -> list[list[int]]:
    """Groups of indices whose lengths add up to at most `room`: each joins the fullest open row it fits.

    Every index leaves in exactly one group.
    """
    groups: list[list[int]] = []
    open_rows: list[tuple[int, list[int]]] = []
    for index in order:
        length = lengths[index]
        assert length <= room
        fits = [place for place, (left, _) in enumerate(open_rows) if left >= length]
        if fits:
            place = min(fits, key=lambda place: open_rows[place][0])
            left, group = open_rows[place]
            group.append(int(index))
            open_rows[place] = (left - length, group)
            continue
        open_rows.append((room - length, [int(index)]))
        if len(open_rows) > _OPEN_ROWS:
            fullest = min(range(len(open_rows)), key=lambda place: open_rows[place][0])
            groups.append(open_rows.pop(fullest)[1])
    return groups + [group for _, group in open_rows]
