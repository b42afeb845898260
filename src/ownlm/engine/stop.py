"""Stop strings on the text itself, for a stop string need not be a token or stand at a token's border.

pieces   "Hel"  "lo\\nUs"  "er: "          stop string "\\nUser:"
given    "Hel"  "lo"      (held: "\\nUs")  found: the rest is never given
"""


class StopStrings:
    """Feed pieces of text; get back what is certain not to belong to a stop string."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self.stop = stop
        self.found: str | None = None
        self._held = ""

    def push(self, text: str) -> str:
        """Text that may be given out now. After `found` is set there is no more."""
        self._held += text
        hits = [(self._held.find(stop), stop) for stop in self.stop if stop in self._held]
        if hits:
            place, self.found = min(hits)
            given, self._held = self._held[:place], ""
            return given
        keep = max((self._overlap(stop) for stop in self.stop), default=0)
        given = self._held[: len(self._held) - keep]
        self._held = self._held[len(self._held) - keep :]
        return given

    def finish(self) -> str:
        """What was held back for a stop string that never came."""
        held, self._held = self._held, ""
        return held

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that begins `stop`."""
        longest = min(len(stop) - 1, len(self._held))
        return next((size for size in range(longest, 0, -1) if stop.startswith(self._held[-size:])), 0)
