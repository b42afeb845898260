"""What a rule looks for in a text: words, patterns, personal data. Each finds the places, and knows its longest match.

Patterns are searched by RE2, which pyarrow brings: the time is proportional to the text, whatever the pattern, and so
there is neither look-around nor a reference back. How long a match can get is read off Python's own parse of it.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from re import _parser  # type: ignore[attr-defined]
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from ownlm.errors import OwnlmError
from ownlm.personal_data import KINDS, find_personal_data
from ownlm.server.guard.plain import alike

# A stream holds back as much as its rules' longest match; a rule that wants more waits for the whole answer.
LONGEST = 1000
# Blanks between the words of a phrase.
_BLANKS, _MOST_BLANKS = r"\s{1,8}", 8
# Scripts without spaces between words (Thai to Khmer, Chinese, Japanese), and Korean, whose endings grow on words.
_WITHOUT_SPACES = ((0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x2E80, 0xD7FF))
# The longest of a kind but e-mail addresses, which are followed as far as they go.
_PERSONAL = 90
_UNFINISHED = re.compile(r"@[\w.-]{0,640}\Z")
# The longest e-mail address, and the longest part of it before the sign; what tells of a date is before it.
_ADDRESS, _LOCAL, _BEFORE, _PART = 640, 64, 64, 4096
_BEGIN, _END = "\x00", "\x01"

Match = tuple[int, int, str]


class Finder(Protocol):
    """`longest`: characters that a match may have; None where nothing bounds it."""

    longest: int | None

    def find(self, text: str) -> Iterator[Match]:
        """Begin, end, and what it is, of each place in a text of plain.Plain."""
        ...


class Words:
    """Words and phrases as they stand, not as parts of longer words."""

    def __init__(self, words: Sequence[str]) -> None:
        parts = [alike(word).split() for word in words]
        if not all(parts):
            raise OwnlmError("words holds one without a letter to find")
        self._words = [one[0] for one in parts if len(one) == 1]
        # The words of a phrase stand apart by any blanks.
        self._phrases = [re.compile(_BLANKS.join(map(re.escape, one))) for one in parts if len(one) > 1]
        self.longest: int | None = max(sum(map(len, one)) + _MOST_BLANKS * (len(one) - 1) for one in parts)

    def find(self, text: str) -> Iterator[Match]:
        for place, end in self._everywhere(text):
            before, after = text[max(0, place - 1) : place], text[end : end + 1]
            if _is_edge(before, text[place]) and _is_edge(after, text[end - 1]):
                yield place, end, ""

    def _everywhere(self, text: str) -> Iterator[tuple[int, int]]:
        for word in self._words:
            place = text.find(word)
            while place >= 0:
                yield place, place + len(word)
                place = text.find(word, place + 1)
        for phrase in self._phrases:
            for found in phrase.finditer(text):
                yield found.span()


class Patterns:
    """Regular expressions as RE2 has them; case makes no difference."""

    def __init__(self, patterns: Sequence[str]) -> None:
        for pattern in patterns:
            _check(pattern)
        self._each = [f"(?i)({pattern})" for pattern in patterns]
        self._any = f"(?i)(?:{'|'.join(f'(?:{pattern})' for pattern in patterns)})"
        widths = [_width(pattern) for pattern in patterns]
        if least := [pattern for pattern, width in zip(patterns, widths, strict=True) if width and not width[0]]:
            raise OwnlmError(f"the pattern {least[0]!r} matches nothing at all, and so everything; make it match text")
        known = [width[1] for width in widths if width is not None]
        bounded = len(known) == len(widths) and max(known) <= LONGEST
        self.longest: int | None = max(known) if bounded else None

    def find(self, text: str) -> Iterator[Match]:
        searched = pa.scalar(text.replace(_BEGIN, " ").replace(_END, " "))
        if not pc.match_substring_regex(searched, self._any).as_py():
            return
        for pattern in self._each:
            marked = pc.replace_substring_regex(searched, pattern, f"{_BEGIN}\\1{_END}").as_py()
            yield from _places(marked)


class Personal:
    """Kinds of ownlm.personal_data."""

    longest: int | None = _PERSONAL

    def __init__(self, kinds: Sequence[str]) -> None:
        if unknown := next((kind for kind in kinds if kind not in KINDS), None):
            raise OwnlmError(f"personal_data holds {unknown!r}; there are {', '.join(KINDS)}")
        self._kinds = frozenset(kinds)

    def find(self, text: str) -> Iterator[Match]:
        # Part by part, for the finder compares each place with all before it.
        for part in range(0, len(text), _PART):
            begin = max(0, part - _BEFORE)
            for found in find_personal_data(text[begin : part + _PART + _ADDRESS]):
                if found.kind in self._kinds and part <= found.start + begin < part + _PART:
                    yield found.start + begin, found.end + begin, found.kind

    @staticmethod
    def open_from(text: str) -> int | None:
        """Where an e-mail address may begin that the text's end cuts."""
        found = _UNFINISHED.search(text)
        return None if found is None else max(0, found.start() - _LOCAL)


def _places(marked: str) -> Iterator[Match]:
    place, begin = 0, 0
    for part in re.split(f"([{_BEGIN}{_END}])", marked):
        if part == _BEGIN:
            begin = place
        elif part == _END:
            if place > begin:
                yield begin, place, ""
        else:
            place += len(part)


def _is_edge(beside: str, letter: str) -> bool:
    """Does a word with this letter at its edge end there, with `beside` next to it?"""
    if not (beside.isalnum() or beside == "_") or not (letter.isalnum() or letter == "_"):
        return True
    return any(first <= ord(letter) <= last for first, last in _WITHOUT_SPACES)


def _check(pattern: str) -> None:
    if "\\C" in pattern:
        raise OwnlmError(f"the pattern {pattern!r} has \\C, which may match half a letter")
    try:
        pc.match_substring_regex(pa.scalar(""), f"(?i)({pattern})")
        # On its own it must be whole too: no group of ours that it closes.
        pc.match_substring_regex(pa.scalar(""), pattern)
    except pa.ArrowInvalid as error:
        reason = str(error).removeprefix("Invalid regular expression: ").split("\n")[0]
        raise OwnlmError(f"the pattern {pattern!r} is not one of RE2's: {reason}") from None
    except UnicodeEncodeError:
        raise OwnlmError("a pattern holds half a surrogate pair") from None


def _width(pattern: str) -> tuple[int, int] | None:
    """The shortest and longest match; None where Python cannot tell."""
    # Classes of Unicode are one letter, whatever they are called.
    alone = re.sub(r"\\[pP](?:\{\^?\w+\}|\w)", "x", pattern)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            least, most = _parser.parse(alone).getwidth()
    except (re.error, RecursionError, OverflowError):
        return None
    return int(least), int(most)
