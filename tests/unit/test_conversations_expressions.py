"""Expressions: Python computes the truth, and what the exam asks is kept apart."""

import random

import pytest

from ownlm.corpus.conversations import expressions
from ownlm.corpus.conversations.expression_families import FAMILIES, WORDS
from ownlm.corpus.conversations.expressions import (
    ask_expression,
    draw_expression,
    exam_expressions,
    expression_key,
    is_held_out,
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
    avoid = {expression.code for expression in exam_expressions(60, random.Random(1))}
    held_out = exam_expressions(240, random.Random(0), avoid=avoid)
    assert not avoid & {expression.code for expression in held_out}
    assert len({expression_key(expression.code) for expression in held_out}) == 240
    counts = [sum(e.family == family for e in held_out) for family in FAMILIES]
    assert min(counts) >= 5


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_trained_and_what_is_asked_never_meet(family: str) -> None:
    rng = random.Random(5)
    assert not any(is_held_out(draw_expression(rng, family).code) for _ in range(100))
    assert all(is_held_out(draw_expression(rng, family, held_out=True).code) for _ in range(10))


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
