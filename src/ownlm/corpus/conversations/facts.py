"""Facts: what a name of Python does, in the first sentence of its own docstring.

In:  the names of names.py and the interpreter that runs. Out: Fact(name, sentence) for each with a useful docstring.

    os.path.join ──import──▶ docstring ──drop signature lines, take one sentence──▶ "Join two or more pathname..."

The answer is the bare sentence: it also stands in the pretraining text after the same name, so tuning only has
to bring out what pretraining began, and a person can look it up with help().
"""

import builtins
import functools
import importlib
import inspect
import itertools
import re
from dataclasses import dataclass

from ownlm.corpus.conversations.names import BUILTINS, FUNCTIONS, METHODS, RARE_METHODS, TYPES

# "S.find(sub[, start]) -> int", "max(iterable, *[, key]) -> value": how to call it, not what it does.
SIGNATURE = re.compile(r"^[\w.]+\s?\([^)]*\)*.*(-+>|\)$)|^[\w.]+\([^)]*\)$")
# "D.clear() -> None.  Remove all items from D.", "D.items() -> a set-like object ...": said behind the arrow.
AFTER_ARROW = re.compile(r"^[\w.]+\(.*?\)\s*-+>\s*(?:None\.\s+)?(\S+ \S+ \S.*)$")
SENTENCE_END = re.compile(r"(?<!e\.g)(?<!eg)(?<!i\.e)(?<!etc)(?<!vs)(?<!\.\.)[.!?](?=\s|$)")
SHORTEST, LONGEST = 12, 150


@dataclass(frozen=True, kw_only=True)
class Fact:
    name: str
    sentence: str


def first_sentence(docstring: str) -> str | None:
    """The first sentence of a docstring on one line, or None when it says nothing useful alone."""
    lines = [line.strip() for line in docstring.strip().splitlines()]
    arrow = AFTER_ARROW.match(lines[0]) if lines else None
    while lines and (not lines[0] or SIGNATURE.match(lines[0])):
        lines.pop(0)
    paragraph = " ".join(" ".join(itertools.takewhile(bool, lines)).split())
    for text in (paragraph, arrow[1] if arrow else ""):
        end = SENTENCE_END.search(text)
        sentence = text[: end.end()] if end else text
        if _is_useful(sentence, capital=text is paragraph):
            return sentence
    return None


def _is_useful(sentence: str, *, capital: bool) -> bool:
    return (
        SHORTEST <= len(sentence) <= LONGEST
        and sentence.isascii()
        and (sentence[0].isupper() if capital else sentence[0].isalpha())
        and sentence.count(" ") >= 2
        and not sentence.endswith((":", "..."))
        and not re.search(r"\bself\b|>>>|->|See help|tm_|:\w+:`|\bhelper\b|\beg\.|\w\(\*?\w+, \*", sentence)
    )


def lookup(name: str) -> object | None:
    """The object called `name` (a built-in, or module.attribute), or None when this Python has none."""
    head, *attributes = name.split(".")
    if hasattr(builtins, head):
        found: object = getattr(builtins, head)
    else:
        module_name = head
        try:
            found = importlib.import_module(head)
            while attributes and not hasattr(found, attributes[0]):
                module_name += "." + attributes.pop(0)
                found = importlib.import_module(module_name)
        except ImportError:
            return None
    for attribute in attributes:
        found = getattr(found, attribute, None)
        if found is None:
            return None
    return found


def fact_names() -> list[str]:
    """Every name to learn, built-ins first; a type's methods are those of the running interpreter."""
    rare = frozenset(RARE_METHODS.split())
    methods = [
        f"{owner}.{method}"
        for owner in TYPES.split()
        for method in dir(getattr(builtins, owner))
        if not method.startswith("_") and f"{owner}.{method}" not in rare
    ]
    return [*BUILTINS.split(), *methods, *METHODS.split(), *FUNCTIONS.split()]


@functools.cache
def load_facts() -> tuple[Fact, ...]:
    """Each name of fact_names with its sentence; names without a useful docstring are left out."""
    facts = []
    for name in dict.fromkeys(fact_names()):
        found = lookup(name)
        sentence = first_sentence(inspect.getdoc(found) or "") if found is not None else None
        if sentence is not None:
            facts.append(Fact(name=name, sentence=sentence))
    return tuple(facts)
