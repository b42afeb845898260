"""Kinds of tasks, asked of stand-ins whose figures are known: one that knows all, one that knows nothing."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from ownlm.errors import OwnlmError
from ownlm.evaluation.metric import Metric
from ownlm.evaluation.run import TaskResult, ask, result_of
from ownlm.evaluation.subject import Asked, Likelihood, Piece, Said, Subject, cut
from ownlm.evaluation.tasks import (
    SWAPS,
    Answers,
    Choice,
    Choices,
    GroupSwap,
    HeldOutText,
    Outcome,
    Prompt,
    Question,
    Swap,
    Task,
    Text,
    Translation,
)
from ownlm.evaluation.tasks.answers import exact, token_f1
from ownlm.evaluation.tasks.sarcasm import headline_choices


@dataclass
class StandIn:
    """`nats` of words after a prompt, by both or by the words alone; `says` by the prompt."""

    nats: Mapping[tuple[Asked, str] | str, float] | None = None
    says: Mapping[Asked, Said] | None = None
    chat: bool = False

    def likelihoods(self, pairs: Sequence[tuple[Asked, str]]) -> list[Likelihood]:
        nats = self.nats or {}
        return [Likelihood(nats=nats.get(pair, nats.get(pair[1], 0.0)), tokens=2) for pair in pairs]

    def answers(self, prompts: Sequence[Asked], *, max_tokens: int, stop: Sequence[str]) -> list[Said]:
        return [(self.says or {}).get(prompt, Said()) for prompt in prompts]

    def pieces(self, texts: Sequence[str]) -> list[list[Piece]]:
        return [[Piece(nats=2.0, tokens=2, bytes=len(piece.encode())) for piece in cut(text)] for text in texts]


class Guesser(StandIn):
    """Draws a likelihood for every question."""

    def likelihoods(self, pairs: Sequence[tuple[Asked, str]]) -> list[Likelihood]:
        draw = random.Random(3)
        return [Likelihood(nats=-draw.random(), tokens=1) for _ in pairs]


class Placed(StandIn):
    """Prefers the choice that stands in one place, whatever it says."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place

    def likelihoods(self, pairs: Sequence[tuple[Asked, str]]) -> list[Likelihood]:
        return [Likelihood(nats=-abs(number % 4 - self.place) - 1.0, tokens=1) for number, _ in enumerate(pairs)]


def result(task: Task, subject: Subject) -> TaskResult:
    return result_of(task, ask(task, subject))


def choice(number: int, answer: int, *words: str) -> Choice:
    return Choice(prompt=Prompt.of(f"question {number}"), choices=words or ("ab", "cd", "ef", "gh"), answer=answer)


DRAW = random.Random(1)
MANY = Choices(name="many", items=[choice(number, DRAW.randrange(4)) for number in range(400)])


def test_who_knows_all_is_always_right() -> None:
    nats: dict[tuple[Asked, str] | str, float] = {
        (f"question {number}", f" {word}"): -1.0 if place == item.answer else -9.0
        for number, item in enumerate(MANY.items)
        for place, word in enumerate(item.choices)
    }
    found = result(MANY, StandIn(nats=nats))
    assert [one.value for one in found.estimates.values()] == [1.0, 1.0, 1.0]
    assert found.counts == {"items": 400, "failed": 0}


@pytest.mark.parametrize("subject", [Guesser(), Placed(0), Placed(3)], ids=["guesses", "first", "last"])
def test_who_knows_nothing_is_at_chance(subject: Subject) -> None:
    assert {one.against_chance for one in result(MANY, subject).estimates.values()} == {"at chance"}


def test_who_finds_all_alike_is_never_right() -> None:
    """lm-eval would give the first choice the point; a broken model must not look good."""
    found = result(MANY, StandIn())
    assert found.estimates["acc"].value == 0 and found.counts["tie"] == 400


def test_lengths_are_taken_away_in_characters_and_in_bytes() -> None:
    task = Choices(name="lengths", items=[choice(0, 1, "abcd", "öö öö", "x")])
    found = result(task, StandIn(nats={" abcd": -8.0, " öö öö": -9.0, " x": -1.0}))
    # a character: -2, -1.8, -1; a byte: -2, -1, -1
    assert {name: one.value for name, one in found.estimates.items()} == {"acc": 0, "acc_norm": 0, "acc_bytes": 0}
    assert found.counts["tie"] == 1
    found = result(task, StandIn(nats={" abcd": -8.0, " öö öö": -9.0, " x": -1.5}))
    assert {name: one.value for name, one in found.estimates.items()} == {"acc": 0, "acc_norm": 0, "acc_bytes": 1}


def test_scores_that_are_no_numbers_are_missing() -> None:
    task = Choices(name="nan", items=[choice(0, 0, "a", "b"), choice(1, 0, "c", "d")])
    found = result(task, StandIn(nats={" a": float("nan"), " c": -1.0, " d": -2.0}))
    assert (found.estimates["acc"].n, found.estimates["acc"].missing, found.counts["failed"]) == (1, 1, 1)


def test_sarcasm_is_balanced_and_calibrated() -> None:
    headlines = [(f"headline {number}", number % 3 == 0) for number in range(30)]
    items = list(headline_choices(headlines, limit=11))
    assert [item.answer for item in items].count(1) == 5 == [item.answer for item in items].count(0)
    # "sarcastic" is likelier everywhere: calibrated, nothing is left of that.
    found = result(Choices(name="sarcasm", items=items), StandIn(nats={" sarcastic": -1.0, " serious": -5.0}))
    assert found.counts["tie"] == 10 and list(found.estimates) == ["acc"]
    first = items[0].prompt.text
    assert first is not None
    subject = StandIn(nats={" sarcastic": -1.0, " serious": -5.0, (first, " sarcastic"): -0.5})
    assert result(Choices(name="sarcasm", items=items[:1]), subject).estimates["acc"].value == 1


def test_group_swaps_score_what_stands_behind_the_name() -> None:
    assert all(swap.sentence.count("{}") == 1 and swap.sentence.partition("{}")[2].strip() for swap in SWAPS)
    assert len({swap.sentence for swap in SWAPS}) == 20
    task = GroupSwap(name="swap", items=[Swap(about="", sentence="The {} sat.", groups=("cat", "dog"))] * 2)
    found = result(task, StandIn(nats={("The cat", " sat."): -1.0, ("The dog", " sat."): -3.0}))
    assert found.estimates["prefers_first"].value == 1 and found.estimates["mean_difference"].value == 2


@pytest.mark.parametrize(
    ("answer", "expected", "same", "f1"),
    [
        ("The cat.", "cat", 1, 1),
        ("  a  Cat\n", "the cat!", 1, 1),
        ("cat dog", "cat", 0, 2 / 3),
        ("cats", "cat", 0, 0),
        ("", "cat", 0, 0),
        ("the", "a", 1, 1),
        ("cat cat", "cat", 0, 2 / 3),
    ],
)
def test_answers_as_squad_compares_them(answer: str, expected: str, same: float, f1: float) -> None:
    assert (exact(answer, expected), token_f1(answer, expected)) == (same, pytest.approx(f1))


QUESTIONS = [
    Question(prompt=Prompt.of("one"), answers=("a blue whale", "whale")),
    Question(prompt=Prompt.of("two"), answers=("red",)),
    Question(prompt=Prompt.of("three"), answers=("green",)),
]


def test_the_nearest_answer_counts_and_failures_are_missing() -> None:
    says: dict[Asked, Said] = {
        "one": Said(text="The whale"),
        "two": Said(text="blue", finish_reason="length"),
        "three": Said(error="the prompt is too long"),
    }
    found = result(Answers(name="q", items=QUESTIONS), StandIn(says=says, nats={" red": -1.0}))
    assert found.counts == {"items": 3, "failed": 1, "cut": 1}
    assert found.estimates["exact_match"].value == 0.5 and found.estimates["f1"].n == 2
    # Four tokens took one nat together.
    assert found.estimates["answer_perplexity"].value == pytest.approx(2.718281828**0.25)


def test_translations_are_sacrebleus() -> None:
    texts = ["the cat sat on the mat today", "two dogs ran", "it rains in the old house"]
    says: dict[Asked, Said] = {word: Said(text=text) for word, text in zip(("one", "two", "three"), texts, strict=True)}
    references = [["the cat sat on a mat today", "the two dogs ran", "it rains on the old house"]]
    references.append(["a cat sat on the mat", *references[0][1:]])
    items = [
        Question(prompt=Prompt.of(word), answers=tuple(dict.fromkeys(one[place] for one in references)))
        for place, word in enumerate(says)
    ]
    found = result(Translation(name="t", items=items), StandIn(says=says))
    assert found.estimates["bleu"].value == pytest.approx(BLEU().corpus_score(texts, references).score)
    assert found.estimates["chrf"].value == pytest.approx(CHRF().corpus_score(texts, references).score)


def test_text_is_measured_by_pieces() -> None:
    text = "x" * 999 + "\n" + "y" * 1500 + "\nzz"
    assert "".join(cut(text)) == text and list(map(len, cut(text))) == [1000, 1501, 2]
    found = result(HeldOutText(name="t", items=[Text(place="a", text=text)]), StandIn())
    assert found.counts["items"] == 3
    assert found.estimates["bits_per_byte"].value == pytest.approx(6 / 0.693147 / 2503, rel=1e-5)
    assert found.estimates["perplexity"].value == pytest.approx(2.718281828)


def test_messages_alone_need_a_chat() -> None:
    task = Answers(name="m", items=[Question(prompt=Prompt(text=None, messages=({"role": "user"},)), answers=("a",))])
    with pytest.raises(OwnlmError, match="add --chat"):
        ask(task, StandIn())


@dataclass(frozen=True, kw_only=True)
class LongAnswers(Task):
    """A kind of one's own: how many words does it answer with?"""

    kind: ClassVar[str] = "long-answers"
    items: Sequence[str]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return (Metric(name="words", better=None),)

    def mark(self, subject: Subject) -> list[Outcome]:
        texts = [one.text for one in subject.answers(self.items, max_tokens=64, stop=())]
        return [Outcome(rows={"words": (float(len(text.split())), 1.0)}, record={"answer": text}) for text in texts]


def test_a_kind_of_ones_own() -> None:
    says: dict[Asked, Said] = {"x": Said(text="one two three"), "y": Said(text="one")}
    assert result(LongAnswers(name="mine", items=["x", "y"]), StandIn(says=says)).estimates["words"].value == 2


def test_a_digest_names_the_items_and_what_is_done_with_them() -> None:
    one = Choices(name="a", items=[choice(0, 0)])
    assert one.digest == Choices(name="b", items=[choice(0, 0)]).digest
    assert one.digest != Choices(name="a", items=[choice(0, 1)]).digest
    assert Answers(name="a", items=QUESTIONS).digest != Translation(name="a", items=QUESTIONS).digest
