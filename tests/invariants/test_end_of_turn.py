"""The end of a turn is learned, loss is on the assistant's tokens alone, and there is no beginning token."""

import json
from pathlib import Path

import pytest

from ownlm.artefact import read_events
from ownlm.corpus.shards import TokenSet
from ownlm.opened import load
from ownlm.tokenizer import ChatTemplate
from ownlm.train.batch import IGNORE
from ownlm.train.conversations import ConversationRows, render_examples
from ownlm.train.pack import DocumentRows
from tiny_journey import QUESTIONS
from tiny_models import tiny_tokenizer


def messages(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def test_answers_known_by_heart_end_by_themselves(workshop: Path) -> None:
    model = load(workshop / "chat")
    for question, answer in QUESTIONS:
        done = model.chat(messages(question, "")[:1], temperature=0, max_tokens=60)
        assert (done.text, done.finish_reason) == (answer, "stop")
        assert done.token_ids[-1] == model.tokenizer.im_end_id


def test_the_same_in_one_batch_and_as_a_stream(workshop: Path) -> None:
    model = load(workshop / "chat")
    prompts = [model.question_prompt(question) for question, _ in QUESTIONS]
    done = model.complete(prompts, temperature=0, max_tokens=60)
    assert [(each.text, each.finish_reason) for each in done] == [(answer, "stop") for _, answer in QUESTIONS]
    stream = model.stream_chat(messages(QUESTIONS[0][0], "")[:1], temperature=0, max_tokens=60)
    assert "".join(piece.text for piece in stream) == QUESTIONS[0][1]
    assert stream.finish_reason == "stop" and stream.tokens == len(done[0].token_ids)


def test_the_tuning_is_on_record(workshop: Path) -> None:
    losses = [event["loss"] for event in read_events(workshop / "chat" / "events.jsonl") if event["event"] == "step"]
    assert len(losses) == 60 and losses[-1] < 0.1 < losses[0]
    counts = json.loads((workshop / "chat" / "card.json").read_text())["figures"]["conversations"]
    assert counts["conversations"] == 3 and counts["shortened"] == counts["without_target"] == 0


def test_loss_is_on_the_answer_and_its_end_alone() -> None:
    tokenizer = tiny_tokenizer()
    template = ChatTemplate(tokenizer)
    turns = [*messages("Hi", "Yes."), *messages("So?", "No.")]
    examples, counts = render_examples([turns], template, context=63)
    batch = ConversationRows(examples, context=63, seed=0).batch(0, 1)
    targets = batch.targets_BT[0].tolist()
    wanted = [*tokenizer.encode("Yes."), tokenizer.im_end_id, *tokenizer.encode("No."), tokenizer.im_end_id]
    assert [target for target in targets if target != IGNORE] == wanted
    assert counts.trained_tokens == len(wanted)
    # Golden: each target is the token that follows its place.
    ids = [*batch.tokens_BT[0].tolist(), 0]
    for place, target in enumerate(targets):
        assert target in (IGNORE, ids[place + 1])
    first = targets.index(wanted[0])
    header = [tokenizer.im_start_id, *tokenizer.encode("assistant\n")]
    assert ids[first + 1 - len(header) : first + 1] == header


def test_golden_ids_and_mask() -> None:
    """Written by hand from the chat format, not by the renderer."""
    tokenizer = tiny_tokenizer()
    encode, start, end = tokenizer.encode, tokenizer.im_start_id, tokenizer.im_end_id
    rendered = ChatTemplate(tokenizer).render(messages("Hi", "Yes."))
    user = [start, *encode("user\nHi"), end, *encode("\n")]
    header, answer = [start, *encode("assistant\n")], [*encode("Yes."), end]
    assert rendered.ids == user + header + answer + encode("\n")
    assert rendered.trained == [False] * (len(user) + len(header)) + [True] * len(answer) + [False]


def test_padding_and_other_conversations_are_no_targets() -> None:
    examples, _ = render_examples(
        [messages("Hi", "Yes."), messages("So?", "No.")], ChatTemplate(tiny_tokenizer()), context=99
    )
    batch = ConversationRows(examples, context=99, seed=0).batch(0, 1)
    padding = batch.documents_BT[0] < 0
    assert padding.any() and (batch.targets_BT[0][padding] == IGNORE).all()
    assert tiny_tokenizer().pad_id not in batch.targets_BT[0].tolist()


def test_a_long_conversation_keeps_its_end() -> None:
    tokenizer = tiny_tokenizer()
    examples, counts = render_examples([messages("word " * 40, "Yes.")], ChatTemplate(tokenizer), context=16)
    assert counts.shortened == 1 and len(examples[0].ids) == 17
    kept = examples[0].ids[examples[0].trained].tolist()
    assert kept == [*tokenizer.encode("Yes."), tokenizer.im_end_id]


def test_the_end_of_each_document_is_a_target_and_nothing_stands_before_it(workshop: Path) -> None:
    tokens = TokenSet.open(workshop / "tokens").documents("train")
    end = tiny_end = load(workshop / "base").tokenizer.end_of_text_id
    for index in range(len(tokens)):
        ids = tokens.document(index).tolist()
        assert ids[-1] == end and ids.count(end) == 1 and max(ids) <= tiny_end
    rows = DocumentRows(tokens, context=32, seed=0)
    batch = rows.batch(0, rows.rows_per_epoch)
    trained_ends = int((batch.targets_BT == end).sum())
    assert trained_ends >= len(tokens) - 2 - rows.rows_per_epoch // 32


@pytest.mark.parametrize("folder", ["base", "chat"])
def test_no_beginning_token_on_any_route(workshop: Path, folder: str) -> None:
    model = load(workshop / folder)
    special = set(model.tokenizer.special.values())
    assert special.isdisjoint(model.tokenizer.encode("The cat"))
    prompt = model.question_prompt("Hi")
    assert prompt[0] == model.tokenizer.im_start_id and prompt.count(model.tokenizer.im_start_id) == 2
    assert model.generate("The cat", max_tokens=1).usage["prompt_tokens"] == len(model.tokenizer.encode("The cat"))
    for name in ("config.json", "generation_config.json"):
        assert json.loads((workshop / folder / name).read_text())["bos_token_id"] is None
    assert json.loads((workshop / folder / "tokenizer_config.json").read_text())["bos_token"] is None
