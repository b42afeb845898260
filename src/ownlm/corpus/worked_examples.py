"""Worked examples: expressions and what Python gives, as the interpreter's prompt shows them.

In:  megabytes and a seed. Out: documents such as

    >>> sorted([3, 1, 2])
    [1, 2, 3]
    >>> 'apple'.upper()
    'APPLE'

A small model sees too few examples in a few minutes of conversations to learn how values follow from expressions. In
this form an example takes half the tokens. No held-out expression is among them (conversations/expressions.py).
"""

import random
from collections.abc import Iterator

from ownlm.corpus.conversations.expressions import draw_expression
from ownlm.corpus.document import Document

SOURCE, KIND = "ownlm", "examples"
# A row of pretraining holds about as many.
_EXAMPLES_A_DOCUMENT = 15


def worked_examples(megabytes: float, seed: int) -> Iterator[Document]:
    """Documents of about `megabytes` in all; none for 0."""
    left, number = megabytes * 1e6, 0
    while left > 0:
        rng = random.Random(f"worked examples {seed} {number}")
        drawn = (draw_expression(rng) for _ in range(_EXAMPLES_A_DOCUMENT))
        text = "".join(f">>> {expression.code}\n{expression.value}\n" for expression in drawn)
        yield Document(text=text, source=SOURCE, path=f"worked examples {number:05d}", kind=KIND, licence="Apache-2.0")
        left, number = left - len(text), number + 1
