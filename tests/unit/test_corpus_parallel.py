"""Parallel text of three formats into lines to tune on."""

import json
import os
from pathlib import Path

import pytest

from ownlm.cli.corpus import parallel
from ownlm.corpus.parallel import read_pairs, write_parallel
from ownlm.errors import OwnlmError

PO = """
msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\\n"

msgid "Save"
msgstr "Speichern"

#, fuzzy
msgid "Maybe"
msgstr "Vielleicht"

msgid "one day"
msgid_plural "%(n)s days"
msgstr[0] "ein Tag"
msgstr[1] "%(n)s Tage"

msgid "%(n)s"
msgstr "%(n)s"

msgid "untranslated"
msgstr ""

#~ msgid "gone"
#~ msgstr "weg"
"""
UNIT = "<tu>{}</tu>"
VARIANT = '<tuv xml:lang="{}"><seg>{}</seg></tuv>'


def tmx(*units: dict[str, str]) -> str:
    body = "".join(UNIT.format("".join(VARIANT.format(*pair) for pair in unit.items())) for unit in units)
    return f'<?xml version="1.0"?><tmx version="1.4"><header/><body>{body}</body></tmx>'


def test_catalogues_memories_and_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "de.po").write_text(PO, encoding="utf-8")
    (tmp_path / "in" / "en-de.tmx").write_text(tmx({"en": "Open <b>it</b>", "de-DE": "Öffnen"}), encoding="utf-8")
    (tmp_path / "in" / "more.tsv").write_text("Close\tSchließen\nSave\tSpeichern\n", encoding="utf-8")
    out = tmp_path / "pairs.jsonl"
    assert parallel(tmp_path / "in", into="German", out=out) == 0
    assert "5 pairs lie in" in capsys.readouterr().out
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    prefix = "Translate into German: "
    assert {line["prompt"].removeprefix(prefix): line["completion"] for line in lines} == {
        "Save": "Speichern",
        "one day": "ein Tag",
        "%(n)s days": "%(n)s Tage",
        "Open it": "Öffnen",
        "Close": "Schließen",
    }
    assert lines[0]["id"] == "de.po:5"
    with pytest.raises(OwnlmError, match="exists already"):
        parallel(tmp_path / "in", into="German", out=out)


def test_of_many_languages_one_is_named(tmp_path: Path) -> None:
    path = tmp_path / "all.tmx"
    path.write_text(tmx({"en": "Open", "de": "Öffnen", "fr": "Ouvrir"}), encoding="utf-8")
    with pytest.raises(OwnlmError, match="--language de"):
        list(read_pairs(path))
    (pair,) = read_pairs(path, language="fr")
    assert (pair.source, pair.target) == ("Open", "Ouvrir")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.tsv", "no tab here\n", r"a\.tsv:1 has no tab"),
        ("a.tsv", b"caf\xe9\tx\n", "no UTF-8"),
        pytest.param("a.tsv", "long " * 30_000 + "\tx\n", "no table .field larger", id="long"),
        ("a.tmx", "<tmx><body><tu>", "no TMX"),
        ("a.po", "what is this\n", "no gettext catalogue"),
        ("a.txt", "something", "holds no pairs"),
    ],
)
def test_what_is_none_is_told(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(OwnlmError, match=words):
        write_parallel(tmp_path, tmp_path / "out.jsonl", into="German")
    assert not (tmp_path / "out.jsonl").exists()


def test_blank_lines_and_names_of_another_encoding(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"\xff.tsv")
    place.write_text("Open\tAuf\n\nShut\tZu\n\n", encoding="utf-8")
    assert write_parallel(tmp_path, tmp_path / "out.jsonl", into="German")["kept"] == 2


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("SECRET")
    text = tmx({"en": "Open &x; now", "de": "Auf &x; jetzt"}).replace(
        '<?xml version="1.0"?>', f'<?xml version="1.0"?><!DOCTYPE tmx [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]>'
    )
    (tmp_path / "a.tmx").write_text(text, encoding="utf-8")
    assert all("SECRET" not in pair.source for pair in read_pairs(tmp_path / "a.tmx"))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("nplurals=4; plural=(n%100==1 ? 1 : n%100==2 ? 2 : n%100==3 || n%100==4 ? 3 : 0);", ["form 1", "form 0"]),
        ("nplurals=1; plural=0;", ["form 0", "form 0"]),
        ("", ["form 0", "form 1"]),
        ("plural=nonsense(;", ["form 0", "form 1"]),
    ],
)
def test_the_languages_own_rule_says_which_plural_is_which(tmp_path: Path, rule: str, expected: list[str]) -> None:
    forms = "".join(f'msgstr[{number}] "form {number}"\n' for number in range(4))
    head = f'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\nPlural-Forms: {rule}\\n"\n\n'
    (tmp_path / "sl.po").write_text(f'{head}msgid "one day"\nmsgid_plural "some days"\n{forms}', encoding="utf-8")
    assert [pair.target for pair in read_pairs(tmp_path)] == expected
