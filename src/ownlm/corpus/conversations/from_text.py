"""Conversations made from the user's own text by plain rules, for a model of a handful of books or notes.

In:  the training texts of a corpus. Out: exchanges: go on from a sentence, write a sentence with a word, fill a
     gap, name the words with capitals; also small talk, who it is, and declining, told for a model of texts.

Every answer stands in the text or is counted from it, so nothing is made up; a tiny model learns the form of a
conversation and the manner of the text, hardly its contents.
"""

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ownlm.corpus.conversations.config import ConversationsConfig
from ownlm.corpus.conversations.declining import ask_outside, outside_question
from ownlm.corpus.conversations.small_talk import IDENTITY, SMALL_TALK, ask_from
from ownlm.corpus.conversations.turns import Exchange, as_typed
from ownlm.errors import OwnlmError

SENTENCE = re.compile(r"[^\s.!?][^.!?]{20,240}[.!?][\"'”’]?(?=\s|$)")
LONG_WORD = re.compile(r"\b[^\W\d_]{4,}\b")
# At most so much of every document is cut into sentences: more than any run of minutes can read.
CHARACTERS_A_DOCUMENT = 400_000
CHARACTERS = 20_000_000

CONTINUE = ("Continue: {x}", "Go on from here: {x}", "What comes after this? {x}", "How does it go on? {x}", "{x}")
USE_WORD = (
    "Write a sentence with the word {x}.",
    "Use {x} in a sentence.",
    "Give me a sentence about {x}.",
    "Say something with the word {x}.",
)
GAP = ("Which word is missing? {x}", "Fill the gap: {x}", "What stands at the ___? {x}")
SHARES = {"continue": 0.4, "word": 0.2, "gap": 0.1, "small_talk": 0.1, "identity": 0.1, "declining": 0.1}
DECLINED = (
    "I do not know that, because I only learned to write as my text does; give me a sentence to continue.",
    "I do not know that, for I am small and read one text alone; give me a word and I write a sentence.",
    "I cannot answer that, since I know only how my text sounds; give me a sentence to continue.",
    "I cannot help with that, as I am too small to know things; I can continue a sentence for you.",
    "I have not learned that, for I read little; ask me to write a sentence with a word.",
    "I know nothing about that, because I only read one text; I can continue a sentence for you.",
    "Sorry, I cannot say, because I am a small model of one text; give me a word for a sentence.",
    "That lies outside what I learned, which was one text; I can go on from a sentence.",
)
TOLD = {
    "I am a small language model, made on this computer from the text of its own Python installation.": (
        "I am a small language model, made on this computer from text that you gave me."
    ),
    "I read the text of this computer's Python installation, then practised with questions and answers.": (
        "I read the text that you gave me, then practised with pieces of it."
    ),
    "I can say what many functions of Python do, and what short expressions give.": (
        "I can continue a sentence, and write one with a word that you give me."
    ),
    "I know nothing of the world outside Python, I forget, and I make mistakes in sums.": (
        "I know nothing of the world, I forget, and I make things up."
    ),
    "I know some English and some Python, nothing else.": "I know only the language of the text that I read.",
    "I am too small to write programs, but I can tell you what a function does.": (
        "I am too small to write programs, but I can continue a sentence."
    ),
}


class TextHelper:
    """Draws conversations from texts. `outside` questions of the exam are never trained."""

    def __init__(self, config: ConversationsConfig, texts: Sequence[str]) -> None:
        self.config = config
        self.rng = random.Random(config.seed)
        self.runs = list(_sentence_runs(texts))
        if sum(map(len, self.runs)) < 2 or not any(len(run) > 1 for run in self.runs):
            raise OwnlmError("the text holds no two sentences in a row to make conversations of; give --chat FILE")
        self.followed = [(run, place) for run in self.runs for place in range(len(run) - 1)]

    def exam(self) -> list[dict[str, Any]]:
        questions: dict[str, None] = {}
        while len(questions) < self.config.exam.refusal:
            questions.setdefault(outside_question(self.rng, held_out=True))
        return [
            {"id": f"refusal-{number:03d}", "kind": "refusal", "question": question, "answers": []}
            for number, question in enumerate(questions)
        ]

    def validation(self) -> list[list[Exchange]]:
        """Sentence pairs drawn here are taken out of training."""
        count = min(self.config.validation, len(self.followed) // 10)
        self.rng.shuffle(self.followed)
        held, self.followed = self.followed[:count], self.followed[count:]
        return [[self._continue(run, place)] for run, place in held]

    def training(self) -> Iterator[list[Exchange]]:
        for _ in range(self.config.conversations):
            yield [self._exchange() for _ in range(self.rng.choices((1, 2), (0.8, 0.2))[0])]

    def _exchange(self) -> Exchange:
        kind = self.rng.choices(list(SHARES), list(SHARES.values()))[0]
        run, place = self.rng.choice(self.followed)
        if kind == "continue":
            return self._continue(run, place)
        if kind == "word":
            return self._with_word(run[place])
        if kind == "gap":
            return self._gap(run[place])
        if kind == "declining":
            exchange = ask_outside(self.rng)
            return Exchange(question=exchange.question, answer=self.rng.choice(DECLINED), kind=kind)
        return self._talk(kind)

    def _continue(self, run: Sequence[str], place: int) -> Exchange:
        question = self.rng.choice(CONTINUE).format(x=run[place])
        return Exchange(question=question, answer=run[place + 1], kind="continue")

    def _with_word(self, sentence: str) -> Exchange:
        words = LONG_WORD.findall(sentence)
        if not words:
            return Exchange(question="Write a sentence.", answer=sentence, kind="word")
        question = self.rng.choice(USE_WORD).format(x=self.rng.choice(words))
        return Exchange(question=as_typed(question, self.rng), answer=sentence, kind="word")

    def _gap(self, sentence: str) -> Exchange:
        words = list(LONG_WORD.finditer(sentence))
        if not words:
            return self._with_word(sentence)
        word = self.rng.choice(words)
        gapped = f"{sentence[: word.start()]}___{sentence[word.end() :]}"
        return Exchange(question=self.rng.choice(GAP).format(x=gapped), answer=word[0], kind="gap")

    def _talk(self, kind: str) -> Exchange:
        """Small talk and identity as told for Python's helper, less what speaks of Python."""
        while True:
            exchange = ask_from(IDENTITY if kind == "identity" else SMALL_TALK, kind, self.rng)
            answer = TOLD.get(exchange.answer, exchange.answer)
            if not re.search(r"Python|function|sorted|string|programming|what len", answer):
                return Exchange(question=exchange.question, answer=answer, kind=kind)


def _sentence_runs(texts: Sequence[str]) -> Iterator[list[str]]:
    """Sentences that follow each other within a paragraph, each on one line."""
    budget = CHARACTERS
    for text in texts:
        piece = text[: min(CHARACTERS_A_DOCUMENT, budget)]
        budget -= len(piece)
        for paragraph in re.split(r"\n\s*\n", piece):
            run = [" ".join(sentence.split()) for sentence in SENTENCE.findall(" ".join(paragraph.split()))]
            if run:
                yield run
