"""Declining and small talk: wordings and fillers of the exam are never trained; every refusal is seen as one."""

import json
import random

import pytest

from ownlm.corpus.conversations import declining, from_text, near_miss
from ownlm.corpus.conversations.small_talk import IDENTITY, SMALL_TALK, ask_from, parted
from ownlm.corpus.conversations.topics import HELD_OUT_ALONE, TOPICS, TRAINED_ALONE
from ownlm.corpus.conversations.turns import as_typed, dressed, normalised
from ownlm.evaluation import declines


def test_held_out_templates_and_fillers_are_not_trained() -> None:
    trained = {wording for topic in TOPICS for wording in topic.trained.split("|")}
    fillers = {filler for topic in TOPICS for filler in topic.fillers.split("|")}
    for topic in TOPICS:
        assert all("{x}" in wording for wording in (topic.trained + "|" + topic.held_out).split("|"))
        assert not set(topic.held_out.split("|")) & trained
        assert not set(topic.held_out_fillers.split("|")) & fillers
    assert not set(declining.alone(HELD_OUT_ALONE)) & set(declining.alone(TRAINED_ALONE))


@pytest.mark.parametrize("answer", [*declining.DECLINED, *from_text.DECLINED])
def test_every_refusal_is_one_short_sentence_and_detected(answer: str) -> None:
    assert declines(answer)
    assert len(answer) < 110
    assert answer.count(". ") == 0 and answer.endswith(".")


@pytest.mark.parametrize("answer", near_miss.DECLINED)
def test_near_miss_refusals_are_detected(answer: str) -> None:
    assert declines(answer.format(name="list.shuffle", known="list.append"))


def test_refusals_come_in_eight_wordings_or_more() -> None:
    assert len(set(declining.DECLINED)) >= 8
    assert len(set(from_text.DECLINED)) >= 8


def test_small_talk_keeps_the_last_question_for_validation() -> None:
    rng = random.Random(0)
    for table in (SMALL_TALK, IDENTITY):
        last = {questions[-1] for questions, _ in parted(table)}
        for _ in range(500):
            asked = ask_from(table, "small_talk", rng).question
            assert normalised(asked) not in {normalised(question) for question in last}
        assert ask_from(table, "small_talk", rng, held_out=True).question in last


def test_small_talk_is_large_enough() -> None:
    turns = [question for table in (SMALL_TALK, IDENTITY) for questions, _ in parted(table) for question in questions]
    assert len(turns) >= 200
    # One question must not have two meanings.
    assert len({normalised(turn) for turn in turns}) == len(turns)
    assert json.dumps(SMALL_TALK).isascii()


def test_questions_keep_their_words_when_typed_or_dressed() -> None:
    rng = random.Random(0)
    for _ in range(200):
        assert "the moon" in normalised(dressed(as_typed("What is the moon?", rng), rng))
        assert "KeyError" in dressed("KeyError", rng)


def test_what_is_told_of_a_text_replaces_answers_that_exist() -> None:
    answers = {answer for table in (SMALL_TALK, IDENTITY) for _, answers in parted(table) for answer in answers}
    assert set(from_text.TOLD) <= answers
