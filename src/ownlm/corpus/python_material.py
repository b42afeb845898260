"""The default material: the Python that is installed, as documents of prose and of code.

In:  a CorpusConfig. Out: documents, split by file, and how many files were left out, by reason.

    files ──held out by name──▶ validation: prose, code          one whole package ──▶ validation: package
      └────by weight, by chance, until the megabytes are full──▶ training: prose, code

Files are parsed only until enough is found: of thousands of files most are never opened.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from ownlm.corpus.compiled_text import (
    TOPICS_PATH,
    compiled_definitions,
    has_compiled_twin,
    language_topics,
)
from ownlm.corpus.config import CorpusConfig
from ownlm.corpus.dedup import text_fingerprint
from ownlm.corpus.document import Document
from ownlm.corpus.licences import PYTHON_LICENCE
from ownlm.corpus.python_files import PythonFile, python_files
from ownlm.corpus.python_text import (
    Definition,
    ModuleText,
    decode_source,
    docstring_share,
    read_module,
    set_prose,
    unwanted_source,
)
from ownlm.corpus.split import fraction, sampling_key
from ownlm.corpus.worked_examples import worked_examples

PYTHON = "python"
# Of packages, prose is taken from files that are to a third docstrings: parsing the others costs more than it gives.
_LEAST_DOCSTRING_SHARE = 0.3
# Of the reference pages, this many times as many are held out as of files: they are the prose most worth measuring.
_TOPICS_SHARE = 2
# A docstring this short (`Return self.`) may stand at many places.
_LONGEST_REPEATABLE = 40


@dataclass(kw_only=True)
class _Gathering:
    """What was taken so far."""

    config: CorpusConfig
    dropped: Counter[str]
    documents: list[Document] = field(default_factory=list)
    bytes_taken: Counter[str] = field(default_factory=Counter)  # by slice, or by kind in training
    docstrings: set[bytes] = field(default_factory=set)
    judged: set[str] = field(default_factory=set)

    def read(self, file: PythonFile, least_docstrings: float = 0.0) -> ModuleText | None:
        """The file's text, or None, counted once with the reason."""
        module, reason = _read_file(file, least_docstrings)
        if reason and file.path not in self.judged:
            self.dropped[reason] += 1
            self.judged.add(file.path)
        return module

    def add(self, document: Document) -> None:
        if document.text.strip():
            self.documents.append(document)
            self.bytes_taken[document.slice or document.kind] += document.size

    def add_prose(
        self, definitions: list[Definition] | tuple[Definition, ...], file: PythonFile, slice: str = ""
    ) -> None:
        """One document of the definitions whose docstrings no earlier one holds; held-out ones come first."""
        text, lines = set_prose(self.unseen(definitions))
        self.add(_document(file, "prose", text, lines, slice))

    def unseen(self, definitions: list[Definition] | tuple[Definition, ...]) -> Iterator[Definition]:
        for definition in definitions:
            if len(definition.docstring) > _LONGEST_REPEATABLE:
                fingerprint = text_fingerprint(definition.docstring)
                if fingerprint in self.docstrings:
                    self.dropped["docstrings that stand elsewhere"] += 1
                    continue
                self.docstrings.add(fingerprint)
            yield definition

    def is_full(self, kind: str) -> bool:
        return self.bytes_taken[kind] >= self._most_bytes(kind)

    def _most_bytes(self, kind: str) -> float:
        config = self.config
        return 1e6 * (config.prose_megabytes if kind == "prose" else config.code_megabytes)

    def slice_has_room(self, slice: str, size: int) -> bool:
        """A validation slice may also not outgrow a tenth of what is trained on."""
        kinds = ("prose", "code") if slice == "package" else (slice,)
        most = min(1e3 * self.config.validation_kilobytes, sum(map(self._most_bytes, kinds)) / 10)
        return self.bytes_taken[slice] + size <= most


def gather_python(config: CorpusConfig, dropped: Counter[str], report: Callable[[str], None]) -> list[Document]:
    """Validation documents first, then training documents in the order of the mixture."""
    files = python_files(dropped)
    gathering = _Gathering(config=config, dropped=dropped)
    held = _hold_out_files(files, gathering) | _hold_out_package(files, gathering)
    open_files = [file for file in files if file.path not in held]
    _take_language_prose(gathering)
    report(f"{len(held)} files are held out; reading up to {len(open_files):,} others")
    for kind in ("prose", "code"):
        for file in _in_mixture_order(open_files, kind, config):
            if gathering.is_full(kind):
                break
            _take(file, kind, gathering)
    gathering.documents.extend(worked_examples(config.example_megabytes, config.seed))
    return gathering.documents


def _hold_out_files(files: list[PythonFile], gathering: _Gathering) -> set[str]:
    """Files of the standard library whose prose and code nothing is trained on; both sides of a file go together."""
    config = gathering.config
    held: set[str] = set()
    by_chance = sorted(
        (fraction(config.seed, "split", file.path), file.path, file)
        for file in files
        if (file.source == PYTHON and not has_compiled_twin(file.module))
    )
    for chance, path, file in by_chance:
        if chance >= config.validation_share:
            break
        module = gathering.read(file)
        if module is None:
            continue
        prose, _ = set_prose(module.definitions)
        if not gathering.slice_has_room("prose", len(prose.encode())):
            continue
        held.add(path)
        gathering.add_prose(module.definitions, file, slice="prose")
        if gathering.slice_has_room("code", len(module.code.encode())):
            gathering.add(_document(file, "code", module.code, module.code_lines, "code"))
        else:
            gathering.dropped["code of held-out files, over its slice"] += 1
    return held


def _hold_out_package(files: list[PythonFile], gathering: _Gathering) -> set[str]:
    """Every file of the held-out package; as many as the slice holds are kept to measure on."""
    own = [file for file in files if file.source == gathering.config.held_out_package]
    for file in sorted(own, key=lambda file: fraction(gathering.config.seed, "split", file.path)):
        module = gathering.read(file)
        if module is None:
            continue
        prose, _ = set_prose(module.definitions)
        if gathering.slice_has_room("package", len(prose.encode()) + len(module.code.encode())):
            gathering.add_prose(module.definitions, file, slice="package")
            gathering.add(_document(file, "code", module.code, module.code_lines, "package"))
        else:
            gathering.dropped["held-out package, over its slice"] += 1
    return {file.path for file in own}


def _take_language_prose(gathering: _Gathering) -> None:
    """What compiled modules say of themselves, and the language's reference pages: all of it, first."""
    config = gathering.config
    for name, definitions in compiled_definitions():
        text, _ = set_prose(gathering.unseen(definitions))
        gathering.add(
            Document(
                text=text,
                source=PYTHON,
                path=f"{name} (compiled)",
                kind="prose",
                licence=PYTHON_LICENCE,
                lines=((0, 0),),
            )
        )
    for text, lines in language_topics():
        name = f"{TOPICS_PATH}:{text.partition(chr(10))[0]}"
        document = Document(
            text=text, source=PYTHON, path=TOPICS_PATH, kind="prose", licence=PYTHON_LICENCE, lines=lines
        )
        if fraction(config.seed, "split", name) >= _TOPICS_SHARE * config.validation_share:
            gathering.add(document)
        elif gathering.slice_has_room("prose", document.size):
            gathering.add(replace(document, split="validation", slice="prose"))


def _in_mixture_order(files: list[PythonFile], kind: str, config: CorpusConfig) -> list[PythonFile]:
    keyed = [
        (sampling_key(config.seed, kind, file.path, weight), file.path, file)
        for file in files
        if (weight := config.weight(file.source, kind)) > 0
    ]
    return [file for _, _, file in sorted(keyed, key=lambda entry: entry[:2])]


def _take(file: PythonFile, kind: str, gathering: _Gathering) -> None:
    if kind == "code":
        module = gathering.read(file)
        if module is not None:
            gathering.add(_document(file, "code", module.code, module.code_lines))
        return
    module = gathering.read(file, 0.0 if file.source == PYTHON else _LEAST_DOCSTRING_SHARE)
    if module is not None:
        gathering.add_prose(module.definitions, file)


def _read_file(file: PythonFile, least_docstrings: float) -> tuple[ModuleText | None, str]:
    """The text of a file, or why there is none."""
    try:
        source = decode_source(file.location.read_bytes())
    except OSError:
        source = None
    if source is None:
        return None, "not readable as text"
    if reason := unwanted_source(source):
        return None, reason
    if docstring_share(source) < least_docstrings:
        return None, ""
    module = read_module(source, file.module)
    return module, "" if module is not None else "not parsable by this Python"


def _document(file: PythonFile, kind: str, text: str, lines: tuple[tuple[int, int], ...], slice: str = "") -> Document:
    return Document(
        text=text,
        source=file.source,
        path=file.path,
        kind=kind,
        licence=file.licence,
        split="validation" if slice else "train",
        slice=slice,
        lines=lines,
    )
