"""The user's own text: readers, cleaning, sampling, splitting, and what a user is told when it cannot be read."""

import gzip
import json
import os
import sys
from types import SimpleNamespace

import pytest

from ownlm.artefact import read_card
from ownlm.corpus import CorpusConfig, build_corpus, read_documents
from ownlm.corpus.clean import clean_text, decode_text
from ownlm.corpus.document import Document
from ownlm.corpus.split import hold_out, split_into_parts
from ownlm.errors import OwnlmError


def story(number, sentences=40):
    """Sentences unlike those of any other number."""
    return "".join(
        f"The {number}th{place} child saw {number * place + 7} birds{number}.\n" for place in range(sentences)
    )


def fill(folder, count=30):
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:02}.txt").write_text(story(number))
    return folder


def build(tmp_path, folder, **options):
    lines = []
    out = build_corpus(tmp_path / "out", CorpusConfig(text=str(folder), **options), report=lines.append)
    return list(read_documents(out)), read_card(out, "corpus"), lines


def test_every_kind_of_file_is_read(tmp_path):
    folder = fill(tmp_path / "text", 24)
    (folder / "deep").mkdir()
    (folder / "deep" / "notes.md").write_bytes(b"\xef\xbb\xbf" + story(50).replace("\n", "\r\n").encode())
    (folder / "a.txt.gz").write_bytes(gzip.compress(story(51).encode()))
    rows = [{"text": story(52)}, {"content": story(53)}, {"text": "  "}]
    (folder / "b.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (folder / "c.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": story(54)}).encode()))
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 10)
    documents, card, lines = build(tmp_path, folder)
    assert {d.path for d in documents} >= {"deep/notes.md", "a.txt.gz", "b.jsonl", "c.jsonl.gz"}
    assert story(50) in {d.text for d in documents}
    assert card.figures["left_out"]["empty"] == 1
    assert card.figures["left_out"]["files of another kind"] == 1
    assert card.figures["left_out"]["files that are not UTF-8 text"] == 1
    assert [line for line in lines if "binary.txt" in line] == [
        "not UTF-8 text, and so left out: binary.txt; save as UTF-8 what is to be read"
    ]
    assert card.how["text"] == "text"  # the folder's name, not where it lies
    second = next(d for d in documents if d.text == story(53))
    assert second.line_at(len(second.text) - 1) == 2


def test_of_many_files_that_are_no_text_the_first_are_named(tmp_path):
    folder = fill(tmp_path / "text", 24)
    for number in range(1, 8):
        (folder / f"latin{number}.txt").write_bytes("Grüße".encode("latin-1"))
    _, card, lines = build(tmp_path, folder)
    assert card.figures["left_out"]["files that are not UTF-8 text"] == 7
    named = ", ".join(f"latin{number}.txt" for number in range(1, 6))
    assert any(f"left out: {named} and 2 more;" in line for line in lines)


@pytest.mark.skipif(os.name == "nt", reason="announced: Windows has no such file names")
def test_a_file_name_in_another_encoding_is_no_trouble(tmp_path):
    folder = fill(tmp_path / "text", 24)
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text(story(50))
    documents, _, _ = build(tmp_path, folder)
    assert "caf\ufffd.txt" in {document.path for document in documents}


def test_whole_documents_are_held_out_and_duplicates_dropped(tmp_path):
    folder = fill(tmp_path / "text")
    for number in range(30):  # every document once more, and once nearly
        (folder / f"copy{number}.txt").write_text(story(number).upper())
        (folder / f"near{number}.txt").write_text(story(number) + "One line more.\n")
    documents, card, _ = build(tmp_path, folder, validation_share=0.2)
    assert card.figures["left_out"]["exact duplicates"] + card.figures["left_out"]["near-duplicates"] == 60
    assert {d.split for d in documents} == {"train", "validation"}
    numbers = [d.text.lower().split("th0")[0] for d in documents]
    assert len(numbers) == len(set(numbers)) == 30


def test_one_long_file_is_cut_at_blank_lines(tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    whole = "\n".join(story(number) for number in range(60))
    (folder / "book.txt").write_text(whole)
    documents, _, lines = build(tmp_path, folder)
    assert "cut into" in lines[0]
    assert sum(d.slice == "text" for d in documents) >= 1
    rows = whole.split("\n")
    for document in documents:
        assert rows[document.line_at(0) - 1] == document.text.split("\n")[0]


def test_a_sample_is_whole_documents_and_the_same_every_time(tmp_path):
    folder = fill(tmp_path / "text", 60)
    documents, card, lines = build(tmp_path, folder, max_megabytes=0.04)
    assert sum(d.size for d in documents if d.split == "train") <= 40_000
    assert "fair sample" in lines[0] and card.figures["left_out"]["over the size asked for"] > 0
    assert {d.text for d in documents if d.split == "train"} <= {story(number) for number in range(60)}
    again = build_corpus(tmp_path / "again", CorpusConfig(text=str(folder), max_megabytes=0.04))
    assert read_card(again).content == card.content


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (None, b"", "no such folder"),
        ("", b"", "no text to learn from; put"),
        ("a.txt", bytes(range(256)) * 10, r"1 files that are not UTF-8 text"),
        ("a.txt", "Grüße".encode("latin-1"), "not UTF-8"),
        ("a.txt", b"  \n", "1 empty"),
        ("a.jsonl", b'{"text": "one"}\n{"title": "two"}\n', r'a\.jsonl:2 has no "text"'),
        ("a.jsonl", b'{"text": "one"\n', r"a\.jsonl:1 is no JSON object"),
        ("a.jsonl", b"[1]\n", r'a\.jsonl:1 has no "text"'),
        ("a.txt.gz", b"\x1f\x8b\x08no gzip", "1 damaged files"),
        ("a.txt", b"short", "too little different text"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, name, content, message):
    folder = tmp_path / "text"
    if name is not None:
        folder.mkdir()
    if name:
        (folder / name).write_bytes(content)
    with pytest.raises(OwnlmError, match=message) as caught:
        build_corpus(tmp_path / "out", CorpusConfig(text=str(folder)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_existing_corpus_is_refused_before_any_work(tmp_path):
    with pytest.raises(OwnlmError, match="exists already"):
        build_corpus(tmp_path, CorpusConfig())


def test_cleaning_keeps_lines_and_drops_controls():
    assert clean_text("\ufeffa\r\nb\x00\x0c\tc\rd\ud800") == "a\nb\tc\nd\ufffd"
    assert decode_text("naïve".encode()[:-3]) == "na"  # a character cut by the size limit
    assert decode_text("naïve".encode("utf-16")) is None


def test_parts_hold_the_text_in_order():
    text = "x" * 500 + "\n\n" + "y" * 90 + "\n" + "z" * 5000
    parts = split_into_parts(Document(text=text, source="s", path="p.txt", kind="text"), 100)
    assert "".join(part.text for part in parts) == text
    assert len(parts) > 5


def test_one_book_is_not_the_whole_slice():
    books = [Document(text=f"{n} word\n" * 50_000, source="s", path=f"{n}.txt", kind="text") for n in range(10)]
    training, held, left_out = hold_out(books, share=0.05, most_bytes=100_000, seed=0)
    assert len(held) == 4 and len(training) == 6 and left_out > 0
    assert sum(document.size for document in held) <= 100_000


@pytest.mark.parametrize(
    "options",
    [
        {"text": ""},
        {"max_megabytes": -1.0},
        {"validation_share": 0.0},
        {"near_duplicate": 2.0},
        {"weights": {"x": 1.0}},
    ],
)
def test_impossible_settings_are_refused(options):
    with pytest.raises(OwnlmError):
        CorpusConfig(**options)


def test_hub_streams_only_what_it_keeps(tmp_path, monkeypatch):
    asked = []

    def load_dataset(name, subset, *, split, streaming):
        asked.append((name, subset, split, streaming))
        for number in range(10_000):
            asked.append(number)
            yield {"text": story(number)}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    documents, _, _ = build(tmp_path, "hub:some/stories:small", max_megabytes=0.05)
    assert asked[0] == ("some/stories", "small", "train", True)
    assert len(asked) < 100
    assert {d.source for d in documents} == {"hub:some/stories"}


def test_hub_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(OwnlmError, match=r"pip install 'ownlm\[hub\]'"):
        build_corpus(tmp_path / "out", CorpusConfig(text="hub:some/stories"))

    def load_dataset(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(OwnlmError, match="cannot read hub:some/stories: no route;"):
        build_corpus(tmp_path / "out", CorpusConfig(text="hub:some/stories"))
