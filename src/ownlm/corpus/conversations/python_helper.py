"""The default conversations: facts, expressions, small talk, who it is, and declining, mixed by shares.

In:  ConversationsConfig. Out: training and validation conversations, and the exam.

    exam first ──its questions are kept apart──▶ validation ──likewise──▶ training

Nothing that the exam asks for can be trained on: wordings, near-miss words and expressions are parted in their modules.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from ownlm.corpus.conversations import expressions, fact_questions
from ownlm.corpus.conversations.config import ConversationsConfig
from ownlm.corpus.conversations.declining import ask_outside, outside_question
from ownlm.corpus.conversations.expressions import Expression, ask_expression, draw_expression
from ownlm.corpus.conversations.fact_questions import ask_fact, ask_name
from ownlm.corpus.conversations.facts import load_facts
from ownlm.corpus.conversations.near_miss import ask_near_miss, first_of_owner, make_near_misses
from ownlm.corpus.conversations.small_talk import IDENTITY, SMALL_TALK, ask_from
from ownlm.corpus.conversations.turns import Exchange, normalised

# One exchange teaches most per token; some conversations are longer so that a second question is nothing new.
EXCHANGES = (1, 2, 3)
EXCHANGE_WEIGHTS = (0.7, 0.2, 0.1)


class PythonHelper:
    """Draws exchanges and conversations; `kept` holds what training must not ask."""

    def __init__(self, config: ConversationsConfig) -> None:
        self.config = config
        self.rng = random.Random(config.seed)
        self.facts = load_facts()
        self.near_misses = make_near_misses(self.facts)
        self.first_of_owner = first_of_owner(self.facts)
        self.kept_questions: set[str] = set()
        weights = config.mixture.as_weights()
        self._kinds, self._shares = list(weights), list(weights.values())
        self._deck: list[int] = []

    def exam(self) -> list[dict[str, Any]]:
        """Every item of the exam; call it before drawing anything else."""
        sizes, rng = self.config.exam, self.rng
        items = [
            _item("fact", exchange, name=fact.name)
            for fact in rng.sample(self.facts, min(sizes.fact, len(self.facts)))
            for exchange in [ask_fact(fact, fact_questions.HELD_OUT, rng)]
        ]
        asked = expressions.exam_expressions(sizes.expression, rng)
        items += [
            _item("expression", ask_expression(held, expressions.TRAINED, rng), family=held.family) for held in asked
        ]
        outside: dict[str, None] = {}
        while len(outside) < sizes.refusal:
            outside.setdefault(outside_question(rng, held_out=True))
        items += [{"kind": "refusal", "question": question, "answers": []} for question in outside]
        items += self._in_scope(sizes.in_scope, asked)
        names = rng.sample(self.near_misses.held_out, min(sizes.near_miss, len(self.near_misses.held_out)))
        items += [
            {
                "kind": "near_miss",
                "question": ask_name(name, fact_questions.HELD_OUT, rng),
                "answers": [],
                "name": name,
            }
            for name in names
        ]
        self.kept_questions.update(normalised(item["question"]) for item in items)
        return [{"id": f"{item['kind']}-{number:03d}", **item} for number, item in enumerate(items)]

    def _in_scope(self, count: int, asked_before: Sequence[Expression]) -> Iterator[dict[str, Any]]:
        """Half facts, half expressions, all in wordings that stand nowhere else."""
        half = count // 2
        before = {expression.code for expression in asked_before}
        asked = expressions.exam_expressions(count - half, self.rng, avoid=before)
        for fact in self.rng.sample(self.facts, half):
            yield _item("in_scope", ask_fact(fact, fact_questions.IN_SCOPE, self.rng), name=fact.name)
        for held in asked:
            yield _item("in_scope", ask_expression(held, expressions.IN_SCOPE, self.rng), family=held.family)

    def validation(self) -> list[list[Exchange]]:
        """Conversations of one exchange; their questions are kept from training."""
        held = []
        for _ in range(self.config.validation):
            exchange = self._exchange(held_out=True)
            self.kept_questions.add(normalised(exchange.question))
            held.append([exchange])
        return held

    def training(self) -> Iterator[list[Exchange]]:
        """As many conversations as the configuration asks for, in random order by construction."""
        for _ in range(self.config.conversations):
            count = self.rng.choices(EXCHANGES, EXCHANGE_WEIGHTS)[0]
            yield [self._exchange(held_out=False) for _ in range(count)]

    def _exchange(self, *, held_out: bool) -> Exchange:
        """One exchange by the mixture, drawn again while its question is kept."""
        while True:
            kind = self.rng.choices(self._kinds, self._shares)[0]
            exchange = self._draw(kind, held_out=held_out)
            if normalised(exchange.question) not in self.kept_questions:
                return exchange

    def _draw(self, kind: str, *, held_out: bool) -> Exchange:
        rng = self.rng
        if kind == "fact":
            if not self._deck:
                self._deck = rng.sample(range(len(self.facts)), len(self.facts))
            return ask_fact(self.facts[self._deck.pop()], fact_questions.TRAINED, rng)
        if kind == "expression":
            return ask_expression(draw_expression(rng, held_out=held_out), expressions.TRAINED, rng)
        if kind == "declining":
            return ask_outside(rng)
        if kind == "near_miss":
            return ask_near_miss(rng.choice(self.near_misses.trained), self.first_of_owner, rng)
        return ask_from(IDENTITY if kind == "identity" else SMALL_TALK, kind, rng, held_out=held_out)


def _item(kind: str, exchange: Exchange, **more: str) -> dict[str, Any]:
    return {"kind": kind, "question": exchange.question, "answers": [exchange.answer], **more}
