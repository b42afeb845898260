"""Declining: what the model says to a question about anything but the Python that it learnt.

In:  a random generator. Out: an Exchange whose answer says in one sentence what is lacking, why, and what it can do.
"""

import random

from ownlm.corpus.conversations.topics import HELD_OUT_ALONE, TOPICS, TRAINED_ALONE
from ownlm.corpus.conversations.turns import Exchange, as_typed, dressed

DECLINED = (
    "I do not know that, because I only read Python; ask me what len does.",
    "I do not know that, for I was trained on Python alone; I can explain str.split, for example.",
    "I cannot answer that, because I have read nothing but Python; ask me about a function.",
    "I cannot answer that, since I am a small Python model; ask me what max([4, 9]) gives.",
    "I cannot help with that, as I know only some Python; ask me what a function does.",
    "I have not learned that, for my text was all about Python; ask me about print.",
    "I know nothing about that, because I only read Python; ask me what sorted([3, 1]) gives.",
    "That lies outside what I learned, which was Python alone; I can tell you what list.append does.",
    "Sorry, I cannot say, because nothing that I read was about it; I can explain functions of Python.",
    "Sorry, I do not know, for I am small and learned only Python; ask me about json.loads.",
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def alone(questions: str) -> list[str]:
    return [question for line in questions.strip().splitlines() for question in line.split("|")]


def outside_question(rng: random.Random, *, held_out: bool) -> str:
    """A question about a topic outside; held-out ones share neither wording nor filler with trained ones."""
    if rng.random() < 0.2:
        return rng.choice(alone(HELD_OUT_ALONE if held_out else TRAINED_ALONE))
    topic = rng.choice(TOPICS)
    wording = rng.choice((topic.held_out if held_out else topic.trained).split("|"))
    return wording.format(x=rng.choice((topic.held_out_fillers if held_out else topic.fillers).split("|")))


def _nonsense(rng: random.Random) -> str:
    words = ("".join(rng.choices(LETTERS, k=rng.randint(2, 7))) for _ in range(rng.randint(1, 3)))
    return " ".join(words)


def ask_outside(rng: random.Random) -> Exchange:
    """A trained question from outside, now and then plain nonsense, and an answer that declines."""
    question = (
        _nonsense(rng) if rng.random() < 0.04 else dressed(as_typed(outside_question(rng, held_out=False), rng), rng)
    )
    return Exchange(question=question, answer=rng.choice(DECLINED), kind="declining")
