"""Parallel text into lines to tune on: the same words in two languages.

    de.po     gettext catalogues: msgid and msgstr (of plurals the pairs one by one; fuzzy and obsolete ones left out)
    en-de.tmx translation memories: the segments of two languages of each unit
    en-de.tsv source, tab, target on every line
        ──▶ {"prompt": "Translate into German: Save", "completion": "Speichern", "id": "de.po:12"} a line

In:  a file or a folder, and the name of the language that is translated into. Out: pairs, each once.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from gettext import c2py
from pathlib import Path

from ownlm.artefact import write_atomically
from ownlm.corpus.clean import clean_text
from ownlm.errors import OwnlmError

SUFFIXES = (".po", ".tmx", ".tsv")
_XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
# What holds no words, such as "%(n)s" alone, teaches nothing.
_LEAST_LETTERS = 2
# Of a number that asks for the plural, and how most catalogues without a rule have their forms.
_MANY, _TWO_FORMS = 5, "n != 1"


@dataclass(frozen=True, kw_only=True)
class Pair:
    source: str
    target: str
    place: str


def write_parallel(location: Path, out: Path, *, into: str, language: str | None = None) -> Counter[str]:
    """Write the pairs below `location` to the new file `out`, a JSON line each; returns what was kept and left out.

    `into`: the language's name, as it stands in the prompts. `language`: its code, which a TMX with more than two
    languages needs, such as "de".
    """
    if out.exists():
        raise OwnlmError(f"{out} exists already; name another --out")
    counts: Counter[str] = Counter()
    lines: list[str] = []
    seen: set[tuple[str, str]] = set()
    for pair in read_pairs(location, language=language):
        key = pair.source.strip(), pair.target.strip()
        if not all(sum(map(str.isalpha, side)) >= _LEAST_LETTERS for side in key):
            counts["without words"] += 1
        elif key[0] == key[1]:
            counts["the same in both languages"] += 1
        elif key in seen:
            counts["there already"] += 1
        else:
            seen.add(key)
            counts["kept"] += 1
            entry = {"prompt": f"Translate into {into}: {key[0]}", "completion": key[1], "id": pair.place}
            lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    if not lines:
        raise OwnlmError(f"{location} holds no pairs of texts; give {', '.join(SUFFIXES)} files")
    write_atomically(out, "".join(lines))
    return counts


def read_pairs(location: Path, *, language: str | None = None) -> Iterator[Pair]:
    """The pairs of a file, or of all files below a folder, in the order of their names."""
    if not location.exists():
        raise OwnlmError(f"no such file or folder: {location}; check the spelling")
    files = [location] if location.is_file() else [path for path in sorted(location.rglob("*")) if path.is_file()]
    root = location.parent if location.is_file() else location
    for path in files:
        reader = {".po": _po, ".tsv": _tsv}.get(path.suffix.lower())
        # A file's name may be of another encoding than UTF-8.
        name = clean_text(path.relative_to(root).as_posix())
        if path.suffix.lower() == ".tmx":
            yield from _tmx(path, name, language)
        elif reader is not None:
            yield from reader(path, name)


def _po(path: Path, name: str) -> Iterator[Pair]:
    import polib

    try:
        catalogue = polib.pofile(str(path))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise OwnlmError(f"{path} is no gettext catalogue ({error}); take it out") from None
    plural = _plural_of(catalogue.metadata.get("Plural-Forms", ""))
    for entry in catalogue:
        if entry.obsolete or entry.fuzzy:
            continue
        sides = [(entry.msgid, entry.msgstr)]
        if entry.msgid_plural:
            one, many = plural(1), plural(_MANY)
            forms = entry.msgstr_plural
            sides = [(entry.msgid, forms.get(one, "")), (entry.msgid_plural, forms.get(many, ""))]
        for source, target in sides:
            if source and target:
                yield Pair(source=source, target=target, place=f"{name}:{entry.linenum}")


def _plural_of(header: str) -> Callable[[int], int]:
    """Which form a number takes in the catalogue's language; form 0 is not everywhere that of one."""
    found = re.search(r"plural\s*=\s*([^;]+)", header)
    try:
        return c2py(found[1].strip() if found else _TWO_FORMS)
    except ValueError:
        return c2py(_TWO_FORMS)


def _tsv(path: Path, name: str) -> Iterator[Pair]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), start=1):
                if not row:
                    continue
                if len(row) < 2:
                    raise OwnlmError(f"{path}:{number} has no tab; write source, tab, target on every line")
                yield Pair(source=row[0], target=row[1], place=f"{name}:{number}")
    except UnicodeDecodeError:
        raise OwnlmError(f"{path} is no UTF-8 text; save it as such") from None
    except csv.Error as error:
        raise OwnlmError(f"{path} is no table ({error}); write source, tab, target on every line") from None


def _tmx(path: Path, name: str, language: str | None) -> Iterator[Pair]:
    from lxml import etree

    try:
        # No entities, no network: a memory is often somebody else's file.
        with path.open("rb") as file:
            units = etree.iterparse(file, tag="tu", resolve_entities=False, no_network=True, load_dtd=False)
            for number, (_, unit) in enumerate(units, start=1):
                texts = [(_language(variant), _segment(variant)) for variant in unit.findall("tuv")]
                unit.clear()
                if language is not None:
                    ours = [text for code, text in texts if code.split("-")[0] == language.lower()]
                    others = [text for code, text in texts if code.split("-")[0] != language.lower()]
                    texts = [("", others[0]), ("", ours[0])] if ours and others else []
                elif len(texts) > 2:
                    raise OwnlmError(
                        f"{path} holds more than two languages; say which to translate into, as --language de"
                    )
                if len(texts) == 2:
                    yield Pair(source=texts[0][1], target=texts[1][1], place=f"{name}:{number}")
    except etree.XMLSyntaxError as error:
        raise OwnlmError(f"{path} is no TMX ({error}); take it out") from None


def _language(variant: "object") -> str:
    get = variant.get  # type: ignore[attr-defined]
    return str(get(_XML_LANG) or get("lang") or "").lower()


def _segment(variant: "object") -> str:
    segment = variant.find("seg")  # type: ignore[attr-defined]
    return "" if segment is None else "".join(segment.itertext())
