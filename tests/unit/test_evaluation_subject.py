"""What a task asks of a real tiny model: tokens cut as they should be, scores that no batch changes."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ownlm.engine.perplexity import text_loss
from ownlm.errors import OwnlmError
from ownlm.evaluation.subject import ModelSubject, cut
from ownlm.opened import Model, load
from ownlm.train.pretrain import token_sizes
from tiny_models import WORDS


@pytest.fixture(scope="module")
def base(workshop: Path) -> Model:
    return load(workshop / "base", dtype="float32")


@pytest.fixture(scope="module")
def chat(workshop: Path) -> Model:
    return load(workshop / "chat", dtype="float32")


@torch.inference_mode()
def nats_of(model: Model, context: list[int], continuation: list[int]) -> float:
    chances = model.decoder(torch.tensor([(context + continuation)[:-1]]))[0].double().log_softmax(-1)
    return sum(float(chances[len(context) - 1 + place, id]) for place, id in enumerate(continuation))


def test_spaces_go_to_what_follows(base: Model) -> None:
    encode = base.tokenizer.encode
    found = ModelSubject(base).likelihoods([("the cat", " sat"), ("the cat ", "sat"), ("the cat  ", "sat")])
    assert found[0] == found[1] != found[2]
    assert found[0].nats == pytest.approx(nats_of(base, encode("the cat"), encode(" sat")), abs=1e-5)


def test_nothing_before_is_the_token_between_texts(base: Model) -> None:
    tokenizer = base.tokenizer
    (found,) = ModelSubject(base).likelihoods([("", "the cat")])
    expected = nats_of(base, [tokenizer.end_of_text_id], tokenizer.encode("the cat"))
    assert found.nats == pytest.approx(expected, abs=1e-5) and not found.flags


def test_a_token_over_the_border_is_told_and_scored_whole(base: Model) -> None:
    encode = base.tokenizer.encode
    word = next(word for word in WORDS if len(encode(f" {word}")) == 1 and len(word) > 2)
    (found,) = ModelSubject(base).likelihoods([(f"the cat {word[:2]}", word[2:])])
    assert found.flags == {"merged"} and found.tokens == 1
    assert found.nats == pytest.approx(nats_of(base, encode("the cat"), encode(f" {word}")), abs=1e-5)


def test_what_was_cut_off_is_told(base: Model) -> None:
    long = " ".join(WORDS * 20)
    assert [one.flags for one in ModelSubject(base).likelihoods([(long, " cat"), ("the", " cat")])] == [
        {"truncated"},
        frozenset(),
    ]


def test_neither_company_nor_order_changes_a_score(base: Model) -> None:
    pairs = [(f"{word} saw", f" the {other}") for word in WORDS[:6] for other in WORDS[6:12]]
    together = [one.nats for one in ModelSubject(base).likelihoods(pairs)]
    alone = [ModelSubject(base).likelihoods([pair])[0].nats for pair in pairs]
    assert together == pytest.approx(alone, abs=1e-5)
    backwards = [one.nats for one in ModelSubject(base).likelihoods(pairs[::-1])]
    assert together == pytest.approx(backwards[::-1], abs=1e-5)


def test_an_answer_in_a_chat_is_the_templates_tokens_without_its_end(chat: Model) -> None:
    question = [{"role": "user", "content": "Who are you?"}]
    assert chat.template is not None
    rendered = chat.template.render([*question, {"role": "assistant", "content": "A small model."}])
    answer = [id for id, trained in zip(rendered.ids, rendered.trained, strict=True) if trained][:-1]
    (found,) = ModelSubject(chat, chat=True).likelihoods([(question, "A small model.")])
    assert found.tokens == len(answer) and not found.flags
    assert found.nats == pytest.approx(nats_of(chat, chat.chat_prompt(question), answer), abs=1e-5)


def test_a_base_model_is_not_asked_in_a_chat(base: Model) -> None:
    with pytest.raises(OwnlmError, match="never tuned to chat"):
        ModelSubject(base, chat=True)


def test_answers_are_greedy_and_what_cannot_be_asked_is_missing(chat: Model) -> None:
    question = [{"role": "user", "content": "Who are you?"}]
    too_long = [{"role": "user", "content": " ".join(WORDS * 30)}]
    asked = ModelSubject(chat, chat=True).answers([question, too_long, question], max_tokens=24, stop=())
    assert asked[0] == asked[2] and asked[0].error is None
    assert asked[0].text == chat.chat(question, temperature=0, max_tokens=24).text
    assert asked[1].error is not None and "shorten it" in asked[1].error


def test_pieces_of_a_text_add_up_to_its_loss(base: Model) -> None:
    text = "\n".join(" ".join(WORDS[place % 7 :]) + " é 中文" for place in range(60))
    (pieces,) = ModelSubject(base).pieces([text])
    assert len(pieces) == len(list(cut(text))) > 3
    assert sum(piece.bytes for piece in pieces) == len(text.encode())
    ids = [base.tokenizer.end_of_text_id, *base.tokenizer.encode(text)]
    context = base.decoder.config.max_position_embeddings
    loss = text_loss(base.decoder, [np.array(ids)], token_sizes(base.tokenizer), context=context)
    assert sum(piece.tokens for piece in pieces) == loss.tokens
    assert sum(piece.nats for piece in pieces) == pytest.approx(loss.nats, rel=1e-5)
    assert sum(piece.nats for piece in pieces) / math.log(2) / len(text.encode()) == pytest.approx(loss.bits_per_byte)
    assert [piece.nats for piece in ModelSubject(base).pieces(["a", text])[1]] == pytest.approx(
        [piece.nats for piece in pieces], abs=1e-4
    )
