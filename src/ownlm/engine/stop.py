"""Stop strings on the text itself, for a stop string need not be a token or stand at a token's border.

pieces   "Hel"  "lo\\nUs"  "er: "          stop string "\\nUser:"
given    "Hel"  "lo"      (held: "\\nUs")  found: the rest is never given
"""

from bisect import bisect_right
from collections.abc import Iterable


class StopStrings:
    """Feed pieces of text; get back what is certain not to belong to a stop string.

    Of several in the held text the one that begins first is `found`; of two that begin together, the shorter.
    """

    def __init__(self, stop: Iterable[str]) -> None:
        # In order, and without those that begin with another one, which would end the text before them. So a text
        # can begin with one string of the list only, its neighbour below; and can only begin its neighbour above.
        self._stop: list[str] = []
        for text in sorted(stop):
            if not self._stop or not text.startswith(self._stop[-1]):
                self._stop.append(text)
        self._longest = max(map(len, self._stop), default=0)
        self._held = ""
        self.found: str | None = None

    def push(self, text: str) -> str:
        """Text that may be given out now. After `found` is set there is no more."""
        if not self._stop:
            return text
        text = self._held + text
        certain = len(text)
        for place in range(len(text)):
            rest = text[place : place + self._longest]
            above = bisect_right(self._stop, rest)
            if above > 0 and rest.startswith(self._stop[above - 1]):
                self.found, self._held = self._stop[above - 1], ""
                return text[:place]
            if certain == len(text) and above < len(self._stop) and self._stop[above].startswith(rest):
                certain = place
        self._held = text[certain:]
        return text[:certain]

    def finish(self) -> str:
        """What was held back for a stop string that never came."""
        held, self._held = self._held, ""
        return held
