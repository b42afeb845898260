"""What Python gives, worked out without running anything; and nothing can make it slow or large."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownlm.corpus.conversations.expression_families import FAMILIES
from ownlm.corpus.conversations.expressions import IN_SCOPE, TRAINED, ask_expression, draw_expression
from ownlm.evaluation import check_answer
from ownlm.evaluation.safe_value import PythonRaises, Unsupported, safe_value


@pytest.mark.parametrize("family", FAMILIES)
def test_every_question_that_the_model_is_asked_is_checked(family: str) -> None:
    rng = random.Random(5)
    for wordings in (TRAINED, IN_SCOPE):
        for _ in range(15):
            expression = draw_expression(rng, family)
            question = ask_expression(expression, wordings, rng).question
            assert check_answer(question, expression.value) is None, question
            assert check_answer(question, "something else") == f"Python gives {expression.value}", question


@pytest.mark.parametrize(
    ("question", "answer", "line"),
    [
        ("what is len([3, 1])?", "3", "Python gives 2"),
        ("3+4?", "It gives 7.", None),
        ("3+4?", "17", "Python gives 7"),
        ("3+4?", "It gives 77.", "Python gives 7"),
        ("[1]+[2]", "[1,2]", None),
        ("'FOX'.lower()", "'FOX'", "Python gives 'fox'"),
        ("'fox'.upper()", '"FOX"', None),
        ("what is 'cat'[7]?", "'t'", "Python raises IndexError"),
        ("what is 'cat'[7]?", "An IndexError.", None),
        ("1/0", "1", "Python raises ZeroDivisionError"),
        ("Compute `max([4,9])` now, dear model", "4", "Python gives 9"),
        ("not 3 > 2", "True", "Python gives False"),
        ("I have 2 - 3 cats", "Nice", None),
        ("is that true or false?", "True", None),
        ("What does print do?", "Prints", None),
        ("print('hi')", "hi", None),
        ("Tell me about list.append (the method)", "Append", None),
        ("", "", None),
    ],
)
def test_check_answer(question: str, answer: str, line: str | None) -> None:
    assert check_answer(question, answer) == line


ATTACKS = [
    "9**9**9",
    "2**100000000",
    "(-10**17)**10**17",
    "2.0**10**17",
    "'a'*10**9",
    "[0]*10**9*10**9",
    "[[[[0]*1000]*1000]*1000]*1000",
    "10**9*'ab'",
    "list(range(10**30))",
    "sum(range(10**17))",
    "10**17 in range(10**18)",
    "('a'*1000).join(list('a'*1000))",
    "'%99999999d' % 3",
    "'{:99999999}'.format(3)",
    "f'{3:99999999}'",
    "1<<99999999999",
    "round(5, -10**9)",
    "int('1'*290)",
    "[" * 140 + "]" * 140,
    "-" * 290 + "1",
    "not " * 95 + "1",
    "1" + "+1" * 140,
    "repr(repr(repr('\\\\'*400)))",
    "[x for x in range(10**9)]",
    "(lambda: 1)()",
    "__import__('os').system('true')",
    "open('x')",
    "().__class__.__bases__[0].__subclasses__()",
    "'a'.__class__",
    "str.join",
    "eval('1+1')",
    "sorted([1], key=len)",
    "len(*[[1]])",
    "max(**{'a': 1})",
    "{**{'a': 1}}['a']",
    "3 is 3",
    "\0 + 1",
    "'\\d' + 'a'*3000",
]


@pytest.mark.parametrize("code", ATTACKS)
def test_attacks_are_refused_quickly(code: str) -> None:
    started = time.perf_counter()
    with pytest.raises((Unsupported, PythonRaises)):
        safe_value(code)
    check_answer(code, "x")
    check_answer(" ".join([code] * (300 // len(code))), "x")
    assert time.perf_counter() - started < 1.0


@given(st.text(max_size=120))
def test_any_text_is_answered_without_an_error(text: str) -> None:
    check_answer(text, text)


@given(st.text(alphabet="0123456789+-*/%()[]'\"<>=., abnotirlen", max_size=60))
def test_texts_like_code_are_answered_without_an_error(text: str) -> None:
    check_answer(text, "1")
