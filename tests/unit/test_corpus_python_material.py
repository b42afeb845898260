"""The default material: what is in, what is out, and that the two sides of the split are strangers."""

import importlib.metadata
from collections import Counter

import pytest

from ownlm.artefact import read_card, verify_artefact
from ownlm.corpus import CorpusConfig, build_corpus, corpus_reference_lines, read_documents, show_corpus
from ownlm.corpus.compiled_text import compiled_definitions, language_topics
from ownlm.corpus.dedup import text_fingerprint
from ownlm.corpus.licences import is_allowed
from ownlm.corpus.python_files import dependency_closure, python_files

SMALL = CorpusConfig(prose_megabytes=1.2, code_megabytes=0.4, validation_share=0.02)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return build_corpus(tmp_path_factory.mktemp("corpus") / "small", SMALL)


def test_the_two_sides_share_no_file_and_no_docstring(corpus):
    documents = list(read_documents(corpus))
    topics = "pydoc_data/topics.py"  # its pages are documents of their own
    held = {d.path for d in documents if d.split == "validation"} - {topics}
    assert held
    assert not held & {d.path for d in documents if d.split == "train"}
    assert {d.source for d in documents if d.slice == "package"} == {"jinja2"}
    assert "jinja2" not in {d.source for d in documents if d.split == "train"}
    assert {d.slice for d in documents} == {"", "prose", "code", "package"}
    prints = [text_fingerprint(d.text) for d in documents]
    assert len(prints) == len(set(prints))


def test_training_text_stays_near_its_megabytes(corpus):
    sizes = Counter()
    for document in read_documents(corpus, split="train"):
        sizes[document.kind] += document.size
    assert 1.0e6 < sizes["prose"] < 1.4e6
    assert 0.3e6 < sizes["code"] < 0.6e6


def test_card_and_tables_say_what_was_taken_and_left_out(corpus):
    card = verify_artefact(corpus, "corpus")
    assert card.figures["left_out"]["tests"] > 100
    assert card.how["weights"]["python/prose"] == "all"
    assert card.figures["bytes"] == sum(document.size for document in read_documents(corpus))
    tables = show_corpus(corpus)
    assert sum(row["bytes"] for row in tables["licences"]) == card.figures["bytes"]
    assert all(is_allowed(row["licence"]) for row in tables["licences"])


def test_compressors_give_meaning_to_bits_per_byte(corpus):
    lines = corpus_reference_lines(corpus)
    assert lines["uniform"] == 8.0
    assert 1.0 < lines["xz"] < lines["gzip"] < 4.0


@pytest.mark.slow
def test_equal_files_give_an_equal_hash(corpus, tmp_path):
    again = build_corpus(tmp_path / "again", SMALL)
    assert read_card(again).content == read_card(corpus).content


def test_only_what_ownlm_needs_is_read():
    closure = dependency_closure("ownlm")
    assert {"torch", "numpy", "jinja2"} <= set(closure)
    assert not {"ownlm", "pytest", "ruff", "transformers", "datasets"} & set(closure)
    dropped = Counter()
    files = python_files(dropped)
    assert {file.source for file in files} <= {"python", *closure}
    assert not [file for file in files if "/tests/" in file.path or "_vendor/" in file.path]
    assert not [file for file in files if file.path.startswith(("_sysconfigdata", "idlelib/"))]
    assert dropped["vendored copies"] > 0


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 WITH LLVM-exception AND BSD-3-Clause", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("(MIT OR GPL-2.0-only) AND BSD-3-Clause", False),
        ("unknown", False),
    ],
)
def test_licences_are_read_strictly(expression, allowed):
    assert is_allowed(expression) is allowed


def test_a_package_without_an_allowed_licence_is_left_out(monkeypatch):
    monkeypatch.setattr("ownlm.corpus.python_files.licence_of", lambda package: "GPL-3.0-only")
    dropped = Counter()
    assert {file.source for file in python_files(dropped)} == {"python"}
    assert any(reason.startswith("licence not on the allow-list: numpy") for reason in dropped)


def test_an_absent_dependency_is_passed_over(monkeypatch):
    real = importlib.metadata.distribution

    def without_numpy(name):
        if name == "numpy":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr("ownlm.corpus.python_files.distribution", without_numpy)
    assert "numpy" not in dependency_closure("ownlm")


def test_compiled_functions_speak():
    described = {d.name: d for _, definitions in compiled_definitions() for d in definitions}
    assert described["len"].heading == "len(obj):"
    assert described["str.split"].heading == "str.split(sep, maxsplit):"
    assert "square root" in described["math.sqrt"].docstring
    assert not [name for name in described if "__" in name]


def test_topics_know_their_lines():
    text, lines = next(iter(language_topics()))
    assert text.startswith('The "assert" statement\n') and lines[0][0] == 0
    assert all(text[offset - 1] == "\n" for offset, _ in lines[1:])
