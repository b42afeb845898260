"""Words about Python that stand in no module's source: compiled functions' docstrings, and the language's topics.

In:  the running interpreter. Out: definitions by module (`len`, `str.split`, `math.sqrt` are written in C and
     carry the docstrings that a beginner asks about most), and the pages that `help("assert")` shows.
"""

import ast
import importlib
import inspect
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ownlm.corpus.clean import clean_text
from ownlm.corpus.python_text import Definition

TOPICS_PATH = "pydoc_data/topics.py"

# Compiled modules of the standard library, as they are imported, and under whose name people know them.
COMPILED_MODULES = {
    "builtins": "builtins",
    "math": "math",
    "cmath": "cmath",
    "itertools": "itertools",
    "_functools": "functools",
    "_operator": "operator",
    "_collections": "collections",
    "_bisect": "bisect",
    "_heapq": "heapq",
    "_random": "random",
    "_statistics": "statistics",
    "_struct": "struct",
    "_datetime": "datetime",
    "_decimal": "decimal",
    "_json": "json",
    "_csv": "csv",
    "_io": "io",
    "_codecs": "codecs",
    "_pickle": "pickle",
    "_socket": "socket",
    "_ssl": "ssl",
    "_sqlite3": "sqlite3",
    "_thread": "threading",
    "_queue": "queue",
    "_weakref": "weakref",
    "_hashlib": "hashlib",
    "_bz2": "bz2",
    "_lzma": "lzma",
    "_elementtree": "xml.etree.ElementTree",
    "_string": "string",
    "_signal": "signal",
    "_tracemalloc": "tracemalloc",
    "array": "array",
    "atexit": "atexit",
    "binascii": "binascii",
    "faulthandler": "faulthandler",
    "gc": "gc",
    "marshal": "marshal",
    "mmap": "mmap",
    "posix": "os",
    "nt": "os",
    "pyexpat": "xml.parsers.expat",
    "select": "select",
    "sys": "sys",
    "time": "time",
    "unicodedata": "unicodedata",
    "zlib": "zlib",
}


def has_compiled_twin(module: str) -> bool:
    """Whether a module's docstrings stand, nearly the same, in a compiled one: then it cannot be held out."""
    return module.startswith("_py") or module in COMPILED_MODULES.values()


def compiled_definitions() -> Iterator[tuple[str, list[Definition]]]:
    """(name, definitions) of every compiled module that this Python has."""
    for imported_as, known_as in COMPILED_MODULES.items():
        try:
            module = importlib.import_module(imported_as)
        except ImportError:
            continue
        prefix = "" if known_as == "builtins" else f"{known_as}."
        definitions = [*_described(module, known_as)]
        for name, member in sorted(vars(module).items()):
            if name.startswith("_") or inspect.ismodule(member) or not _belongs(member, imported_as, known_as):
                continue
            definitions += _described(member, f"{prefix}{name}")
            if inspect.isclass(member):
                for method_name, method in sorted(vars(member).items()):
                    if not method_name.startswith("_"):
                        definitions += _described(method, f"{prefix}{name}.{method_name}")
        yield known_as, definitions


def _belongs(member: object, imported_as: str, known_as: str) -> bool:
    """Not imported from elsewhere, and not a value whose docstring is its class's."""
    home = getattr(member, "__module__", None)
    return (inspect.isroutine(member) or inspect.isclass(member)) and home in (imported_as, known_as, None)


def _described(member: object, name: str) -> Iterator[Definition]:
    docstring = getattr(member, "__doc__", None)
    if not isinstance(docstring, str):
        return
    text = clean_text(inspect.cleandoc(docstring)).strip()
    if len(text) < 12:
        return
    yield Definition(
        name=name,
        parameters=_text_parameters(getattr(member, "__text_signature__", None)),
        docstring=text,
        line=0,
        docstring_line=0,
    )


def _text_parameters(signature: object) -> str | None:
    """`($self, sep=None, /)` as `sep`; None where the function tells none."""
    if not isinstance(signature, str):
        return None
    # Defaults such as (1, 2) would cut wrongly: their brackets go first.
    plain = re.sub(r"=\s*(\([^)]*\)|[^,)]*)", "", signature.strip()[1:-1])
    names = [name.strip() for name in plain.split(",")]
    return ", ".join(name for name in names if name and name not in ("/", "*") and not name.startswith("$"))


def language_topics() -> Iterator[tuple[str, tuple[tuple[int, int], ...]]]:
    """(text, lines) of each reference page inside Python; lines point into topics.py."""
    path = Path(sysconfig.get_paths()["stdlib"]) / TOPICS_PATH
    if not path.is_file():
        return
    source = path.read_text(encoding="utf-8")
    rows = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Dict):
            for value in node.values:
                if isinstance(value, ast.Constant) and value.end_lineno is not None:
                    text = str(value.value).rstrip() + "\n"
                    yield clean_text(text), _literal_lines(text, rows, value.lineno, value.end_lineno)
            return


def _literal_lines(text: str, rows: list[str], first: int, last: int) -> tuple[tuple[int, int], ...]:
    """Where each line of a long literal stands: newer Pythons write it as it reads, older ones in pieces."""
    if last - first + 1 >= text.count("\n") and "\\n" not in rows[first - 1]:
        return ((0, first),)
    lines, offset = [(0, first)], 0
    for number in range(first, last):
        # Only a row whose piece ends in an escaped line end closes a line of the text.
        if "\\n" in rows[number - 1]:
            offset = text.find("\n", offset) + 1
            if offset == 0:
                break
            lines.append((offset, number + 1))
    return tuple(entry for entry in lines if entry[0] < len(text))
