"""Documents as people have them: each format by its content, with its pages; what is hostile is left out and named."""

import gzip
import io
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest

import documents_made as made
from ownlm.corpus import CorpusConfig, build_corpus, read_documents
from ownlm.corpus.document import Document, write_documents
from ownlm.corpus.folder_text import gather_folder
from ownlm.corpus.readers import FolderReader, apart, bounds
from ownlm.corpus.split import split_into_parts

BOMB = {"[Content_Types].xml": "", "word/document.xml": bytes(20 << 20)}
LAUGHS = "<!DOCTYPE x [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'>]><package>&b;</package>"
PAGE = "<html><body><nav><a href='/'>Home</a></nav><main><h1>Rain</h1><p>It rains &amp; pours.</p></main></body></html>"


def page(number: int, *lines: str) -> list[made.Placed]:
    """With a header, and a page number as a footer."""
    body = [(72.0, 700.0 - 12 * row, line) for row, line in enumerate(lines)]
    return [(72, 750, "The Book of Rain"), *body, (300, 40, f"Page {number + 6} of 12")]


LINES = [
    page(1, "A storm is known by the pressure, which falls", "quickly. The wea-", "ther turns well-known and well-"),
    page(2, "known clouds gather over the town and over hills.", "    It rains."),
    page(3, "The end of the story, which is told in one line."),
]


def read(folder: Path) -> tuple[dict[str, Document], FolderReader]:
    with FolderReader(folder, most_bytes=10**7) as reader:
        found = [document for path in sorted(folder.iterdir()) for document in reader.documents(path)]
    return {document.path: document for document in found}, reader


def test_every_format_is_known_by_its_content_and_knows_its_places(tmp_path: Path) -> None:
    files = {
        "a.bin": made.pdf(LINES),
        "b.txt": made.docx(),
        "c": made.epub({"z.xhtml": "<html><body><h1>First</h1><p>One.</p></body></html>", "a.xhtml": PAGE}),
        "d.md": b"# Top\n\nText.\n```\n# no heading\n```\n## Below\nMore.\n",
        "e.asp": PAGE.encode(),
        "f.html": "<html><meta charset='iso-8859-1'><p>Grüße</p></html>".encode("latin-1"),
        "g.pdf.gz": gzip.compress(made.pdf(LINES)),
        "README": b"Only text.\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    documents, reader = read(tmp_path)
    kinds = {path: document.kind for path, document in documents.items()}
    assert kinds == {
        "a.bin": "pdf", "b.txt": "docx", "c": "epub", "d.md": "markdown", "e.asp": "html", "f.html": "html",
        "g.pdf.gz": "pdf", "README": "text",
    }  # fmt: skip
    assert [name for _, name in documents["a.bin"].places] == ["page 1", "page 2", "page 3"]
    assert documents["g.pdf.gz"].text == documents["a.bin"].text
    assert documents["b.txt"].text.split("\n\n") == [
        "Terms", "The tenant pays on the first of each month.", "Rent | 900", "Pets", "Cats are welcome.",
    ]  # fmt: skip
    assert documents["b.txt"].place_at(documents["b.txt"].text.index("Cats")) == "Pets"
    assert documents["c"].text.startswith("First") and [name for _, name in documents["c"].places] == [
        "chapter 1 (First)", "chapter 2 (Rain)",
    ]  # fmt: skip
    assert [name for _, name in documents["d.md"].places] == ["Top", "Below"]
    assert documents["e.asp"].text == "Rain\n\nIt rains & pours." and documents["f.html"].text == "Grüße"
    assert not reader.left_out.names and not reader.counts


def test_the_text_of_a_pdf_is_mended(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(made.pdf(LINES))
    document = read(tmp_path)[0]["a.pdf"]
    assert document.text.split("\n\n") == [
        "A storm is known by the pressure, which falls quickly. The weather turns well-known and well-known clouds "
        "gather over the town and over hills.",
        "It rains.",
        "The end of the story, which is told in one line.",
    ]
    assert document.place_at(document.text.index("known clouds")) == "page 2"
    assert document.place_at(document.text.index("well-known and")) == "page 1"


def zip_that_lies() -> bytes:
    """A member that says it holds a byte and holds a megabyte."""
    data = bytearray(made.zipped({"[Content_Types].xml": "", "word/document.xml": bytes(1 << 20)}))
    at = data.rindex(b"PK\x01\x02") + 24
    data[at : at + 4] = (1).to_bytes(4, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("scan.pdf", made.pdf([[], []], picture=True), "scanned"),
        ("locked.pdf", made.pdf(LINES, locked=True), "encrypted"),
        ("half.pdf", b"%PDF-1.7\n" + bytes(100), "damaged"),
        ("text.pdf", b"no PDF at all", "damaged"),
        ("bomb.docx", made.zipped(BOMB), "too large"),
        ("lie.docx", zip_that_lies(), "damaged"),
        ("half.docx", made.docx()[:3000], "damaged"),
        ("entity.epub", made.epub({}, package=LAUGHS), "damaged"),
        ("lost.epub", made.epub({})[:-40], "damaged"),
        ("torn.txt.gz", gzip.compress(b"text " * 999, mtime=0)[:-30], "damaged"),
        ("old.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "other format"),
        ("old.rtf", rb"{\rtf1 text}", "other format"),
        ("latin.txt", "Grüße".encode("latin-1"), "not text"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "another kind"),
        ("style.css", b"body { color: red }", "another kind"),
        ("a.zip", made.zipped({"x": "y"}), "another kind"),
    ],
)
def test_what_cannot_be_read_is_counted_and_named_and_the_rest_is_read(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "page.html").write_text(PAGE)
    documents, reader = read(tmp_path)
    assert list(documents) == ["page.html"]
    assert reader.left_out.names == {reason: [name]}
    dropped: Counter[str] = Counter()
    lines: list[str] = []
    gather_folder(tmp_path, most_bytes=10**6, seed=0, dropped=dropped, report=lines.append)
    assert dropped == reader.left_out.counts() and sum(dropped.values()) == 1
    assert [name in line for line in lines] == ([] if reason == "another kind" else [True])


def test_entities_in_a_word_document_are_not_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    xml = zipfile.ZipFile(io.BytesIO(made.docx())).read("word/document.xml").decode()
    entity = f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}">]>'
    xml = xml.replace("<w:document", entity + "<w:document", 1).replace("Cats are", "Cats &e; are")
    with zipfile.ZipFile(io.BytesIO(made.docx())) as archive:
        members: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.docx").write_bytes(made.zipped(members | {"word/document.xml": xml}))
    documents, _ = read(folder)
    assert all("SECRET" not in document.text for document in documents.values())


def test_pages_of_a_pdf_without_text_are_counted(tmp_path: Path) -> None:
    pages = made.pdf([LINES[0], []], picture=True)
    (tmp_path / "a.pdf").write_bytes(pages)
    documents, reader = read(tmp_path)
    assert len(documents) == 1 and reader.counts == {"PDF pages without text": 1}


def test_a_reader_that_dies_loses_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = apart._start, []

    def die_first() -> "subprocess.Popen[str]":
        started.append(1)
        if len(started) > 1:
            return start()
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-c", "input()"], stdin=pipe, stdout=pipe, encoding="utf-8")

    monkeypatch.setattr(apart, "_start", die_first)
    for name in ("a.html", "b.html", "c.html"):
        (tmp_path / name).write_text(PAGE)
    documents, reader = read(tmp_path)
    assert reader.left_out.names == {"damaged": ["a.html"]} and len(documents) == 2 == len(started)


def test_a_zip_of_many_members_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(20_001):
            archive.writestr(str(number), "")
    with pytest.raises(Exception, match="too large"):
        bounds.open_zip(stream.getvalue())


def test_places_stay_with_parts_and_in_the_corpus(tmp_path: Path) -> None:
    text = "\n\n".join(f"Page {number} says what only page {number} says, {number * 77}." * 30 for number in range(40))
    places = tuple((text.index(f"Page {number} "), f"page {number}") for number in range(40))
    document = Document(text=text, source="folder", path="a.pdf", kind="pdf", places=places)
    parts = split_into_parts(document, 2000)
    assert len(parts) > 5
    for part in parts:
        for number in range(40):
            if f"Page {number} says" in part.text:
                assert part.place_at(part.text.index(f"Page {number} says")) == f"page {number}"
    write_documents(tmp_path / "documents.parquet", parts)
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "a.pdf").write_bytes(
        made.pdf([page(1, *(f"Line {row} of {n}." for row in range(40))) for n in range(90)])
    )
    build_corpus(tmp_path / "corpus", CorpusConfig(text=str(folder)))
    assert all(found.places and found.kind == "pdf" for found in read_documents(tmp_path / "corpus"))
