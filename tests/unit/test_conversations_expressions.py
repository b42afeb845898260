"""Expressions: Python computes the truth, and what the exam asks is kept apart."""

import random

import pytest

from ownlm.corpus.conversations import expressions
from ownlm.corpus.conversations.expression_families import FAMILIES, WORDS
from ownlm.corpus.conversations.expressions import (
    ask_expression,
    draw_expression,
    expression_key,
    hold_out_expressions,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_writes_its_expressions_as_unparse_does(family: str) -> None:
    # So the text is its own key: equal keys mean equal texts.
    rng = random.Random(3)
    for _ in range(60):
        expression = draw_expression(rng, family)
        assert expression_key(expression.code) == expression.code
        assert expression.value == repr(eval(expression.code))


def test_key_ignores_quotes_spaces_and_needless_brackets() -> None:
    assert expression_key('len( "cat" )') == expression_key("(len('cat'))")
    assert expression_key("3 + 4") != expression_key("4 + 3")


def test_held_out_expressions_are_distinct_and_spread() -> None:
    held_out = hold_out_expressions(240, random.Random(0), avoid={"1 + 1"})
    assert len({expression_key(expression.code) for expression in held_out}) == 240
    counts = [sum(e.family == family for e in held_out) for family in FAMILIES]
    assert min(counts) >= 5


def test_question_holds_the_expression_and_the_answer_is_bare() -> None:
    rng = random.Random(1)
    expression = draw_expression(rng, "sorted")
    for _ in range(30):
        exchange = ask_expression(expression, expressions.TRAINED, rng)
        assert expression.code in exchange.question
        assert exchange.answer == expression.value


def test_wordings_differ_and_words_are_short() -> None:
    assert not {w.lower() for w in expressions.TRAINED} & {w.lower() for w in expressions.IN_SCOPE}
    assert all(2 < len(word) <= 6 for word in WORDS)
    assert len(set(WORDS)) == len(WORDS)
