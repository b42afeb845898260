"""The words of a question that say what it is about, as a query of SQLite's full-text search."""

import re

# Words are found in any of their forms, by Porter's stems.
TOKENIZER = "porter unicode61 remove_diacritics 2"
_WORD = re.compile(r"[^\W_]+")
# Words that stand in every question or every text.
_ENGLISH = """
a about after all also am an and any are as at be because been before being between both but by can could did do
does doing done each for from further had has have having he her here hers him his how i if in into is it its just
many may me might more most much must my no nor not of off on once only or other our out over own please same shall
she should so some such tell than that the their them then there these they this those through to too under until up
very was we were what when where which while who whom whose why will with would you your
"""
_GERMAN = """
aber als am an auch auf aus bei bin bis bist da das dass dem den der des die dir du ein eine einem einen einer eines
er es für hat hatte ich ihr im in ist ja kann mein mit nach nicht noch nur oder sehr sein sich sie sind so über um
und uns unter vom von vor war warum was wenn wer werden wie wir wird wo zu zum zur
"""
_STOP = frozenset(_ENGLISH.split() + _GERMAN.split())


def question_words(question: str) -> list[str]:
    """Each once, in small letters; where all are common words, all of them."""
    words = list(dict.fromkeys(word.lower() for word in _WORD.findall(question)))
    return [word for word in words if word not in _STOP] or words


def match_any(words: list[str]) -> str:
    """What FTS5 takes to find any of them: quoted, a word is never an operator of its."""
    return " OR ".join(f'"{word}"' for word in words)
