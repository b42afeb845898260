"""A text as rules see it: letters that only look other than they are read are made alike, and every place is known.

    "Ｆｏr\\u200bbidden", "forbi\\\\u0064den"  ──▶  "forbidden"        origin(3) is where its fourth letter stands

NFKC (full width, ligatures, accents in two parts), small letters, without what has no width (zero-width spaces and
joiners, soft hyphens, direction marks), JSON's \\\\u escapes read. Letters of other scripts that look alike, spaces
between letters, and codes such as base64 stay what they are.
"""

import re
import unicodedata
from functools import lru_cache

# A letter as JSON may write it, or a letter with the marks that belong to it (Hangul's parts join without being marks).
_UNIT = re.compile(r"\\u([0-9a-fA-F]{4})|.", re.DOTALL)
# Characters of no width that are not of category Cf: variation selectors, fillers, the joiner of graphemes.
_NO_WIDTH = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}
# A letter with more marks than that is no letter of any language.
_LONGEST = 32


class Plain:
    """`text` is what is searched."""

    def __init__(self, given: str) -> None:
        self._given = given
        self._origins: list[int] | None = None
        if given.isascii() and "\\u" not in given:
            self.text = given.lower()
            return
        parts: list[str] = []
        origins: list[int] = []
        place, end = 0, len(given)
        while place < end:
            unit = _UNIT.match(given, place)
            assert unit is not None
            begin, place = place, unit.end()
            letters = chr(int(unit[1], 16)) if unit[1] else unit[0]
            while place < end and len(letters) < _LONGEST and _joins(given[place]):
                letters += "" if _is_hidden(given[place]) else given[place]
                place += 1
            made = _alike(letters)
            parts.append(made)
            origins += [begin] * len(made)
        self.text, self._origins = "".join(parts), origins

    def origin(self, place: int) -> int:
        """Where, in the text as it was given, what stands at `place` begins; past the end: its end."""
        if self._origins is None:
            return min(place, len(self._given))
        return self._origins[place] if place < len(self._origins) else len(self._given)

    def origin_of_end(self, place: int) -> int:
        """Where what stands before `place` ends: behind the whole of a letter that reads as two."""
        if self._origins is not None and place:
            last = self._origins[place - 1]
            while place < len(self._origins) and self._origins[place] == last:
                place += 1
        return self.origin(place)


def alike(text: str) -> str:
    """Of a rule's word."""
    return Plain(text).text


@lru_cache(maxsize=8192)
def _alike(letters: str) -> str:
    seen = "".join(letter for letter in letters if not _is_hidden(letter))
    made = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    # Half a surrogate pair is no text for a search in UTF-8.
    return "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in made if not _is_hidden(letter))


def _is_hidden(letter: str) -> bool:
    return ord(letter) in _NO_WIDTH or unicodedata.category(letter) == "Cf"


def _joins(letter: str) -> bool:
    """Does it belong to the letter before it?"""
    if letter < "\u0300":
        return False
    return unicodedata.combining(letter) > 0 or "\u1160" <= letter <= "\u11ff" or _is_hidden(letter)
