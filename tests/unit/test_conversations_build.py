"""The artefact: repeatable, verified, and nothing of the exam in the training data."""

import json
from pathlib import Path
from typing import Any

import pytest

from ownlm.artefact import verify_artefact, write_artefact
from ownlm.corpus.conversations import ConversationsConfig, ExamSizes, Mixture, build_conversations
from ownlm.corpus.conversations.expressions import expression_key
from ownlm.corpus.conversations.turns import normalised
from ownlm.corpus.document import DOCUMENTS_FILE, Document, write_documents
from ownlm.errors import OwnlmError

SMALL = ConversationsConfig(conversations=1500, validation=60, exam=ExamSizes(near_miss=40, fact=80))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_conversations(tmp_path_factory.mktemp("conversations") / "made", SMALL)


def corpus_of(folder: Path, documents: list[Document]) -> Path:
    with write_artefact(folder, "corpus", how={}) as draft:
        write_documents(draft.path / DOCUMENTS_FILE, documents)
    return folder


def test_the_card_counts_and_verifies(built: Path) -> None:
    card = verify_artefact(built, "conversations")
    assert card.figures["conversations"] == 1500
    assert card.figures["exam"] == {"fact": 80, "expression": 240, "refusal": 120, "in_scope": 120, "near_miss": 40}
    assert set(card.figures["exchanges"]) == set(Mixture().as_weights())
    assert not (built / "choose.jsonl").exists()


def test_turns_alternate_and_end_with_the_assistant(built: Path) -> None:
    for entry in read(built / "train.jsonl") + read(built / "validation.jsonl"):
        roles = [message["role"] for message in entry["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(message["content"].strip() for message in entry["messages"])


def test_nothing_of_the_exam_is_trained(built: Path) -> None:
    exam = read(built / "exam.jsonl")
    assert len({item["id"] for item in exam}) == len(exam)
    asked = {normalised(item["question"]) for item in exam}
    names = {item["name"] for item in exam if item["kind"] == "near_miss"}
    trained = [
        message["content"]
        for entry in read(built / "train.jsonl") + read(built / "validation.jsonl")
        for message in entry["messages"]
        if message["role"] == "user"
    ]
    assert not asked & {normalised(question) for question in trained}
    assert not any(name in question.replace("`", " ").split() for name in names for question in trained)


def test_no_held_out_expression_is_trained_after_normalisation(built: Path) -> None:
    from ownlm.evaluation.expression_check import find_expressions
    from ownlm.evaluation.safe_value import PythonRaises, Unsupported, safe_value

    def key(question: str) -> str | None:
        for code in find_expressions(question):
            try:
                safe_value(code)
                return expression_key(code)
            except (PythonRaises, Unsupported):
                continue
        return None

    held = {key(item["question"]) for item in read(built / "exam.jsonl") if item["kind"] == "expression"}
    trained = {
        key(message["content"])
        for entry in read(built / "train.jsonl")
        for message in entry["messages"]
        if message["role"] == "user" and any(mark in message["content"] for mark in "[('\"+-*<>%")
    }
    assert len(held) >= 235
    assert not (held - {None}) & trained


def test_the_same_seed_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    again = build_conversations(tmp_path / "again", SMALL)
    assert verify_artefact(again).content == verify_artefact(built).content


def test_docstring_choices_come_from_held_out_prose(tmp_path: Path) -> None:
    def prose(number: int, split: str, said: str) -> Document:
        text = f"pack.m{number}.act{number}(x):\nDo the {said} thing number {number} well. More.\n\n"
        return Document(
            text=text, source="python", path=f"m{number}.py", kind="prose", split=split,
            slice="prose" if split == "validation" else "",
        )  # fmt: skip

    documents = [prose(n, "validation", "held") for n in range(12)] + [prose(n, "train", "old") for n in range(3)]
    # A held-out sentence that training has too must not be asked.
    documents.append(
        Document(text="q.r.s(x):\nDo the held thing number 3 well.\n\n", source="p", path="q.py", kind="prose")
    )
    corpus = corpus_of(tmp_path / "corpus", documents)
    out = build_conversations(tmp_path / "made", ConversationsConfig(corpus=corpus, conversations=5, validation=5))
    items = read(out / "choose.jsonl")
    assert len(items) == 11
    for item in items:
        number = item["question"].removesuffix(" do?").rpartition("act")[2]
        assert item["options"][item["right"]] == f"Do the held thing number {number} well."
        assert len(set(item["options"])) == 4
        assert item["question"] != item["neutral_question"]
        assert number != "3"
    card = verify_artefact(out)
    assert card.how["corpus"] == "corpus" and set(card.inputs) == {"corpus"}


def test_conversations_from_text_quote_the_text(tmp_path: Path) -> None:
    sentences = [f"The captain looked at wave number {n} and said nothing more." for n in range(60)]
    document = Document(text=" ".join(sentences), source="folder", path="sea.txt", kind="text")
    corpus = corpus_of(tmp_path / "corpus", [document])
    config = ConversationsConfig(corpus=corpus, from_text=True, conversations=300, validation=20)
    out = build_conversations(tmp_path / "made", config)
    train = [message["content"] for entry in read(out / "train.jsonl") for message in entry["messages"]]
    assert sum(answer in sentences for answer in train) > 100
    assert not any("Python" in text for text in train if text not in sentences and text.startswith("I am a small"))
    held = {tuple(m["content"] for m in entry["messages"])[1] for entry in read(out / "validation.jsonl")}
    assert held and all(answer in sentences for answer in held)
    assert {item["kind"] for item in read(out / "exam.jsonl")} == {"refusal"}


def test_text_without_sentences_is_refused(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path / "corpus", [Document(text="a b c", source="folder", path="x", kind="text")])
    with pytest.raises(OwnlmError, match="no two sentences"):
        build_conversations(tmp_path / "made", ConversationsConfig(corpus=corpus, from_text=True))


def test_a_mixture_of_nothing_is_refused() -> None:
    zero = Mixture(fact=0, expression=0, small_talk=0, identity=0, declining=0, near_miss=0)
    with pytest.raises(OwnlmError, match="mixture"):
        ConversationsConfig(mixture=zero)
    for wrong in ({"strict": True}, {"group": "source"}):
        with pytest.raises(OwnlmError, match="your own conversations; give them as chat"):
            ConversationsConfig(**wrong)
    with pytest.raises(OwnlmError, match="need a corpus"):
        ConversationsConfig(from_text=True)
