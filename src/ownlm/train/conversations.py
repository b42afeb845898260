"""From conversations and documents to rows: packed whole, loss on what is to be learned alone.

    row   [conversation 4      ][document 0    ][conversation 7          ] . .
    loss         ^^^^     ^^^^   ^^^^^^^^^^^^^^           ^^   ^^^^^

What is longer than a row is shortened or cut as render.py says, and counted.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ownlm.corpus.conversations.problems import MOST_BAD_SHARE
from ownlm.errors import DamagedError, OwnlmError
from ownlm.tokenizer import ChatTemplate, ModelTemplate, Tokenizer
from ownlm.train.batch import IGNORE, Batch
from ownlm.train.pack import next_token_batch
from ownlm.train.render import Counts, Example, Line, Messages, Renderer

# Open rows that a conversation may still join: more fills rows better and costs time.
_OPEN_ROWS = 8
# So many of the lines that a template does not take are told.
_TOLD = 5


def read_conversations(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of an artefact's .jsonl file: {"messages": [...]}, perhaps with tools, or {"text": "..."}."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line)
                if not isinstance(entry.get("text"), str) and not isinstance(entry["messages"], list):
                    raise ValueError("its messages are no list")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DamagedError(
                    f'{path}:{number}: no line {{"messages": [...]}} or {{"text": "..."}} ({error}); mend it'
                ) from None
            yield entry


def render_examples(
    lines: Iterable[Line | Messages],
    template: ChatTemplate | ModelTemplate | None,
    *,
    context: int,
    tokenizer: Tokenizer | None = None,
) -> tuple[list[Example], Counts]:
    """Every line (or list of messages) that trains something, as ids and mask; at most context + 1 ids each.

    `tokenizer` is needed for a model without a chat template, which takes documents alone.
    """
    tokenizer = template.tokenizer if template is not None else tokenizer
    assert tokenizer is not None
    renderer = Renderer(template=template, tokenizer=tokenizer, context=context)
    examples, counts, number = [], renderer.counts, 0
    for number, line in enumerate(lines, start=1):
        try:
            examples += renderer.examples(line if isinstance(line, Mapping) else {"messages": line})
        except OwnlmError as error:
            counts.refused += 1
            if len(counts.refusals) < _TOLD:
                counts.refusals.append(f"line {number}: {error}")
    # In a small set, such as what is held out, a few are a large share.
    if counts.refused > max(_TOLD, MOST_BAD_SHARE * number) or (counts.refused and not examples):
        raise OwnlmError(
            f"{counts.refused:,} of {number:,} conversations do not suit the chat template; {counts.refusals[0]}"
        )
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
        # An example's own first token follows from nothing, and only trained ones are targets.
        batch.targets_BT[~torch.from_numpy(trained[:, 1:].copy())] = IGNORE
        return batch

    def rows_in_first_epoch(self) -> int:
        self._members(0)
        return len(self._packed)

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
