"""Wrapping a stream at words, without ever going back.

In:  text in pieces of any size, each with a style; the terminal's width, asked anew for every word.
Out: what can be written now. One word is held back: until a space follows, nobody knows whether it fits.

    "the qui" ──▶ "the"            held: " qui"
    "ck fox"  ──▶ " quick"  or  "\\nquick"   held: " fox"

Wide characters (Chinese, Japanese, emoji) count two columns and may be parted without a space.
A word longer than a whole line is left to the terminal, so that a long address can still be copied.
"""

from collections.abc import Callable

from wcwidth import wcwidth

from ownlm.cli.screen_text import LONGEST_LINE, cell_width, styled

# These may not begin a line; the two joiners and the modifiers belong to the character before them.
_STAYS_WITH_LEFT = frozenset("、。，．：；？！）］｝〉》」』】〕…‥ー々’”%)]}>,.:;?!'\"\u200d\ufe0f")
_STAYS_WITH_RIGHT = frozenset("（［｛〈《「『【〔‘“([{<\u200d")


class WordWrap:
    """Push styled text in, write what comes out; `hang` is the indentation of continued lines."""

    def __init__(self, columns: Callable[[], int | None]) -> None:
        self._columns = columns
        self._column = 0
        self._spaces = ""
        self._word: list[tuple[str, str]] = []
        self._too_long = False
        self.hang = 0

    def push(self, text: str, style: str = "") -> str:
        out: list[str] = []
        for character in text:
            if character == "\n":
                out.append(self._release() + "\n")
                self._column, self._spaces = 0, ""
            elif character in " \t":
                out.append(self._release())
                self._spaces += " " if character == " " else " " * 4
            else:
                if self._may_part_before(character):
                    out.append(self._release())
                self._word.append((character, style))
        if self._is_too_long():
            out.append(self._release(ended=False))
        return "".join(out)

    def raw(self, text: str) -> str:
        """Text that must stay as it is, such as a line of code."""
        out = self._release() + self._spaces + text
        self._spaces = ""
        last = text.rpartition("\n")[2]
        self._column = cell_width(last) + (0 if "\n" in text else self._column)
        return out

    def finish(self) -> str:
        """The word held back, and a newline if the line is not ended."""
        out = self._release()
        self._spaces = ""
        out += "\n" if self._column else ""
        self._column = 0
        return out

    def _limit(self) -> int | None:
        columns = self._columns()
        # The last column stays free: some terminals move on when it fills, some at the next character.
        return None if columns is None else max(min(columns - 1, LONGEST_LINE), 1)

    def _may_part_before(self, character: str) -> bool:
        if not self._word or self._too_long:
            return False
        before = self._word[-1][0]
        if character in _STAYS_WITH_LEFT or before in _STAYS_WITH_RIGHT or _is_modifier(character):
            return False
        width = wcwidth(character)
        return width == 2 or (width == 1 and wcwidth(before) == 2)

    def _is_too_long(self) -> bool:
        limit = self._limit()
        return limit is not None and self._width() > limit - self.hang

    def _width(self) -> int:
        return cell_width("".join(character for character, _ in self._word))

    def _release(self, *, ended: bool = True) -> str:
        if not self._word:
            self._too_long = self._too_long and not ended
            return ""
        limit, width, out = self._limit(), self._width(), ""
        overflows = limit is not None and self._column + len(self._spaces) + width > limit
        if overflows and self._column > self.hang and not self._too_long:
            out = "\n" + " " * self.hang
            self._column = self.hang
        else:
            out = self._spaces
            self._column += len(self._spaces)
        self._spaces = ""
        self._column += width
        out += _render(self._word)
        self._word = []
        self._too_long = not ended
        if (columns := self._columns()) is not None and self._column > columns:
            self._column %= columns  # the terminal has gone on to its next row
        return out


def wrap_text(text: str, columns: int | None) -> str:
    """A whole text wrapped at words, each line's own indentation kept on its continuations."""
    wrap = WordWrap(lambda: columns)
    out = []
    for line in text.split("\n"):
        wrap.hang = len(line) - len(line.lstrip(" "))
        out.append(wrap.push(line + "\n"))
    return "".join(out).removesuffix("\n")


def _is_modifier(character: str) -> bool:
    """Skin tones and the letters that make flags: they change the character before them."""
    return 0x1F3FB <= ord(character) <= 0x1F3FF or 0x1F1E6 <= ord(character) <= 0x1F1FF


def _render(word: list[tuple[str, str]]) -> str:
    out, run, style = [], "", ""
    for character, own_style in word:
        if own_style != style:
            out.append(styled(run, style))
            run, style = "", own_style
        run += character
    return "".join(out) + styled(run, style)
