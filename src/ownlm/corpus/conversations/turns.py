"""What a conversation is here, and how people vary a question without changing it.

In:  a question and its answer. Out: an Exchange; a Conversation is a few of them, in OpenAI's form.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

Message = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One question and its answer; `kind` says which part of the mixture it came from."""

    question: str
    answer: str
    kind: str


def messages(exchanges: Sequence[Exchange]) -> list[Message]:
    """The exchanges as a list of chat messages, the user first."""
    turns: list[Message] = []
    for exchange in exchanges:
        turns.append({"role": "user", "content": exchange.question})
        turns.append({"role": "assistant", "content": exchange.answer})
    return turns


def as_typed(question: str, rng: random.Random) -> str:
    """The question as somebody in a hurry may type it: lower-case start, no mark at the end, both, or as is."""
    roll = rng.random()
    if roll < 0.6:
        return question
    if roll < 0.9 and len(question) > 1 and question[0].isupper() and question[1] not in "'":
        question = question[0].lower() + question[1:]
    if roll > 0.7:
        question = question.rstrip("?.!")
    return question


OPENINGS = """
Hi, |Hello, |Hey, |Well, |So, |Now, |And |OK, |Then |Please, |Sorry, |I wonder: |Question: |One more thing: |
I am a beginner: |For my homework: |In a book I saw this: |A friend asks: |My question is this. |Listen: |
""".replace("\n", "").split("|")[:-1]
CLOSINGS = (" Thanks!", " Please.", " I am new to this.", " Just curious.", " Keep it short.", " I need it today.")


def dressed(question: str, rng: random.Random) -> str:
    """The question, now and then with words before or after it that mean nothing."""
    roll = rng.random()
    if roll < 0.15:
        first_word = question.split(maxsplit=1)[0]
        if first_word.istitle() and first_word != "I":
            question = question[0].lower() + question[1:]
        return rng.choice(OPENINGS) + question
    if roll < 0.2:
        return question + ("" if question.endswith(("?", ".", "!")) else ".") + rng.choice(CLOSINGS)
    return question


def normalised(text: str) -> str:
    """Equal for questions that differ only in case, marks, backticks and spaces."""
    kept = "".join(character for character in text.lower() if character not in "`?.!,")
    return " ".join(kept.split())
