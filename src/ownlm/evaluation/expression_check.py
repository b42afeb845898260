"""After an expression the chat says what Python gives, when the model said otherwise: shown, not told.

In:  a question such as "what is len([3, 1])?" and the model's answer.
Out: "Python gives 2" when the answer differs; None when it is right, or when the question holds no expression.

An expression is the longest run of words that safe_value.py can work out. Code in backticks, or with brackets or
quotes, counts anywhere; bare sums such as 2 - 3 only where the words around them ask for a value, since people
also write "2 - 3 cats" or "true or false".
"""

import re
from collections.abc import Iterator
from typing import Any

from ownlm.evaluation.safe_value import MOST_CHARACTERS, PythonRaises, Unsupported, safe_value

MOST_WORDS = 25
ASKING = frozenset(
    """
    a about and answer are back calculate came can come comes compute could do does equal equals
    evaluate evaluates find for from get give gives happens hello hey hi how i in is it know let
    like me much need next now of ok one out please print prints python result return returns say
    see show so solve tell than thanks that the then to tried try type typed us value want was we
    well what what's whats when will work would write yields you your =
    """.split()  # noqa: SIM905
)
_LITERAL = re.compile(r"""[-+]?[\d._]+|'[^']*'|"[^"]*"|True|False|None""")
_NOT_CODE = "?!.,;:="


def check_answer(question: str, answer: str) -> str | None:
    """One line to print under the answer, or None."""
    for code in find_expressions(question):
        try:
            value = safe_value(code)
        except Unsupported:
            continue
        except PythonRaises as error:
            return None if str(error) in answer else f"Python raises {error}"
        return None if says(answer, value) else f"Python gives {value!r}"
    return None


def find_expressions(question: str) -> Iterator[str]:
    """Runs of words that may be one expression, the likeliest and longest first."""
    if len(question) > MOST_CHARACTERS:
        return
    for quoted in re.findall(r"`([^`\n]+)`", question):
        if not _LITERAL.fullmatch(quoted.strip()):
            yield quoted.strip()
    words = question.replace("`", " ").split()[:MOST_WORDS]
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length + 1):
            code = " ".join(words[start : start + length]).rstrip(_NOT_CODE).lstrip(_NOT_CODE).strip()
            around = words[:start] + words[start + length :]
            if _is_code(code) and (re.search(r"[\[('\"{]", code) or _asks(around)):
                yield code


def _is_code(code: str) -> bool:
    """Cheap tests that spare the parser: more than a literal, and something in it that works."""
    if len(code) < 3 or _LITERAL.fullmatch(code) or not re.search(r"[\d'\"\[(]|True|False", code):
        return False
    return re.search(r"[-+*/%<>=\[(]|\bin\b|\bnot\b|\band\b|\bor\b", code) is not None


def _asks(words: list[str]) -> bool:
    return all(word.lower().strip(_NOT_CODE) in ASKING or not word.strip(_NOT_CODE) for word in words)


def says(answer: str, value: Any) -> bool:
    """Whether the answer is the value, alone or inside a sentence; quotes' kind and spaces do not count."""
    wanted, given = _plain(repr(value)), _plain(answer)
    if given == wanted or given.rstrip(".") == wanted:
        return True
    # Inside a sentence ("It gives 5."), but not as a part of a longer number, word or list.
    return re.search(rf"(?:^|(?<=\s)){re.escape(wanted)}(?=[.!]?(?:\s|$))", given) is not None and bool(
        re.match(r"[A-Za-z]+ ", given)
    )


def _plain(text: str) -> str:
    text = " ".join(text.replace("`", "").replace('"', "'").split())
    return re.sub(r"\s*,\s*", ", ", re.sub(r"([\[({])\s+|\s+([\])}])", r"\1\2", text))
