"""Answers from one's own documents: passages, the index in the cache, quotations, and when it declines."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

import documents_made as made
from ownlm.apps import DECLINED, ask, evidence
from ownlm.apps.evidence import coverages
from ownlm.apps.passage_index import PassageIndex, _log_ahead
from ownlm.apps.passages import passages, sentences
from ownlm.apps.question_words import question_words
from ownlm.apps.quotations import find_quotation
from ownlm.cli.main import run
from ownlm.corpus import Document
from ownlm.corpus.readers import FolderReader
from ownlm.errors import OwnlmError

RENT = [
    [(72, 700, "The tenant pays the rent on the first day of each month.")],
    [(72, 700, "Cats may live in the flat.")],
]


class Judge:
    """A model that finds a question likely after texts with a certain word."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.tokenizer = SimpleNamespace(continue_ids=str.split)
        self.template = "one"

    def answer_log_likelihoods(self, pairs: list[tuple[str, str]]) -> list[float]:
        return [-1.0 if self.word in text else -20.0 for text, _ in pairs]

    log_likelihoods = answer_log_likelihoods  # what a base model is asked by


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OWNLM_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "documents"
    place.mkdir()
    (place / "lease.pdf").write_bytes(made.pdf(RENT))
    (place / "notes.txt").write_text("Buy milk.\n\nThe landlord's name is “Mr. Jones”, of 5 High Street.\n")
    (place / "scan.pdf").write_bytes(made.pdf([[]], picture=True))
    return place


def test_passages_are_whole_sentences_of_the_text_and_overlap() -> None:
    paragraphs = [" ".join(f"Sentence {n} of {part} has so many words." for n in range(9)) for part in "abcdefgh"]
    text = "\n\n".join(paragraphs)
    places = tuple((text.index(f"Sentence 0 of {part}"), f"page {part}") for part in "abcdefgh")
    found = list(passages(Document(text=text, source="s", path="my-book.pdf", kind="pdf", places=places)))
    assert len(found) > 2 and all(passage.text in text and passage.text.endswith(".") for passage in found)
    assert all(140 <= len(passage.text.split()) <= 300 for passage in found[:-1])
    assert {word for passage in found for word in passage.text.split()} == set(text.split())
    for one, other in pairwise(found):
        assert any(one.text.endswith(other.text[:size]) for size in range(20, 400))
    assert found[-1].where(found[-1].text.index("of h")) == "page h" and found[0].title == "my book"


@pytest.mark.parametrize(
    ("text", "count", "parts"),
    [
        ("Mr. Jones came. He left.", 2, 1),
        ("word " * 900, 1, 5),
        ("One\n\ntwo\n- three\n- four", 4, 1),
        (" ", 0, 0),
    ],
)
def test_sentences(text: str, count: int, parts: int) -> None:
    assert len(list(sentences(text))) == count
    assert len(list(passages(Document(text=text, source="s", path="p", kind="text")))) == parts


def test_a_long_list_of_initials_is_parted_in_one_pass() -> None:
    assert len(list(sentences("Dr. X " * 200_000))) == 1


def test_lines_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(f"Sentence {n} has a few words of its own, and it ends here." for n in range(200))
    document = Document(text=text, source="s", path="p.txt", kind="text")
    found = list(passages(document))
    assert [each.line for each in found] == [document.line_at(text.index(each.text)) for each in found]
    monkeypatch.setattr(Document, "line_at", lambda *_: pytest.fail("counted from the beginning"))
    assert len(list(passages(document))) == len(found) > 5


@pytest.mark.parametrize(("question", "words"), [("", "no words"), ("?!", "no words"), ("rent", "holds no documents")])
def test_where_there_is_nothing_to_ask_it_says_so(folder: Path, question: str, words: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(OwnlmError, match=words):
        ask(folder / "empty" if question == "rent" else folder, question)


def test_a_question_is_about_its_rare_words_in_any_form() -> None:
    assert question_words("What is the rent of the flats?") == ["rent", "flats"]
    assert question_words("Who are you?") == ["who", "are", "you"]
    assert coverages(["A flat is rented.", "Nothing", "x"], {"rent": 3.0, "flats": 1.0}) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("quotation", "text", "found"),
    [
        ('he said "no" - twice', "Then he  said\n“no” – twice.", "he  said\n“no” – twice"),
        ("It's here", "It’s here", "It’s here"),
        ("he said", "she said", None),
        ("", "text", None),
    ],
)
def test_a_quotation_stands_in_its_passage_or_nowhere(quotation: str, text: str, found: str | None) -> None:
    span = find_quotation(quotation, text)
    assert (text[slice(*span)] if span else None) == found


def test_without_a_model_it_is_a_search_that_names_file_and_page(folder: Path) -> None:
    reply = ask(folder, "When is the rent paid?")
    assert reply.answer == "" and not reply.quotations
    assert (reply.nearest[0].file, reply.nearest[0].place) == ("lease.pdf", "page 1")
    assert "scan.pdf" in reply.left_out[0]
    assert ask(folder, "Who is the landlord?").nearest[0].place == "line 1"
    assert ask(folder, 'zebra" OR NEAR(*').answer == DECLINED
    (folder / "rows.jsonl").write_text('{"text": "One"}\n{"text": "An ibex.\\n\\nA gnu is grazing."}\n')
    assert ask(folder, "gnu").nearest[0].place == "line 2"
    assert ask(folder, "gnu ibex", Judge("gnu")).quotations[0].place == "line 2"  # type: ignore[arg-type]


def test_with_a_model_it_quotes_or_declines(folder: Path) -> None:
    reply = ask(folder, "Which day is the rent paid?", Judge("rent on"))  # type: ignore[arg-type]
    assert [(q.text, q.file, q.place) for q in reply.quotations] == [
        ("The tenant pays the rent on the first day of each month.", "lease.pdf", "page 1")
    ]
    assert reply.answer == reply.quotations[0].text
    declined = ask(folder, "Which day is the rent paid?", Judge("nowhere"))  # type: ignore[arg-type]
    assert (declined.answer, declined.quotations) == (DECLINED, []) and 0 < len(declined.nearest) <= 3
    base = Judge("rent on")
    base.template = None  # type: ignore[assignment]
    assert ask(folder, "Which day is the rent paid?", base).quotations == reply.quotations  # type: ignore[arg-type]
    # About something else altogether no model is asked.
    assert ask(folder, "Which zebra won the day?", None).answer == ""
    assert ask(folder, "Which zebra won the championship?", Judge("")).answer == DECLINED  # type: ignore[arg-type]


def test_a_quotation_that_is_not_there_is_dropped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence.Sentence, "text", "The rent on Mars is due.")
    assert ask(folder, "Which day is the rent paid?", Judge("rent on")).answer == DECLINED  # type: ignore[arg-type]


def test_only_what_changed_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    documents = FolderReader.documents

    def watched(self: FolderReader, path: Path):  # type: ignore[no-untyped-def]
        asked.append(path.name)
        return documents(self, path)

    monkeypatch.setattr(FolderReader, "documents", watched)
    ask(folder, "rent")
    ask(folder, "rent")
    assert sorted(asked) == ["lease.pdf", "notes.txt", "scan.pdf"]
    (folder / "notes.txt").write_text("The zebra is striped.")
    (folder / "lease.pdf").unlink()
    assert [source.file for source in ask(folder, "zebra").nearest] == ["notes.txt"] and len(asked) == 4
    assert ask(folder, "rent milk").answer == DECLINED
    (folder / "bad.jsonl").write_text("{broken\n")
    assert "bad.jsonl" in " ".join(ask(folder, "zebra").left_out)


def test_a_damaged_index_is_made_anew_and_one_of_another_version_too(folder: Path, tmp_path: Path) -> None:
    ask(folder, "rent")
    (place,) = (tmp_path / "cache").glob("ask/*.sqlite")
    if os.name != "nt":
        assert place.stat().st_mode & 0o077 == 0
    place.write_bytes(b"no database at all" * 999)
    assert ask(folder, "rent").nearest
    with sqlite3.connect(place) as database:
        database.execute("DELETE FROM files")
        database.execute("PRAGMA user_version = 99")
    database.close()
    assert len(ask(folder, "rent").nearest) == 1


def test_two_at_once_and_a_kill_leave_a_whole_index(folder: Path) -> None:
    for number in range(60):
        (folder / f"{number}.txt").write_text(f"File {number} is about the number {number}.")
    code = "import sys; from ownlm.apps import ask; print(len(ask(sys.argv[1], 'number').nearest))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(folder)]
    three = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    three[0].kill()
    outs = [process.communicate()[0] for process in three]
    assert [process.returncode for process in three[1:]] == [0, 0] and outs[1:] == ["5\n", "5\n"]
    with PassageIndex.open(folder) as index:
        assert index.files == 62
        rows = index._database.execute("SELECT file, count(*) FROM passages GROUP BY file").fetchall()
    assert len(rows) == 62 and {count for _, count in rows} == {1}


def test_an_index_that_another_process_begins_is_waited_for(tmp_path: Path) -> None:
    place = tmp_path / "new.sqlite"
    other = sqlite3.connect(place, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(0.3, other.execute, ["COMMIT"])
    timer.start()
    ours = sqlite3.connect(place, timeout=0, isolation_level=None)  # as where SQLite does not wait
    _log_ahead(ours)
    timer.join()
    assert ours.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ask", str(folder), "When is the rent paid?"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("lease.pdf, page 1\nThe tenant pays") and "scan.pdf" in shown.err
    assert run(["ask", str(folder), "zebra", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == DECLINED
    assert run(["ask", str(folder / "none"), "zebra"]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_an_index_that_cannot_be_kept_is_said_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "file").write_text("")
    monkeypatch.setenv("OWNLM_CACHE", str(folder.parent / "file"))
    with pytest.raises(OwnlmError, match="OWNLM_CACHE"):
        ask(folder, "rent")
