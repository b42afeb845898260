"""Text made fit for a terminal: no power to its control characters, a known width, a style with an end.

In:  any text, a model's above all: a model can be taught to write escape sequences.
Out: text that only shows itself; its width in columns; the same in one of the eight base colours.
"""

from wcwidth import wcswidth, wcwidth

BOLD = "1"
DIM = "2"
CYAN = "36"
YELLOW_UNDERLINED = "33;4"
RED_BOLD_UNDERLINED = "31;1;4"

# Lines longer than this tire the eye; a wide window keeps the rest empty.
LONGEST_LINE = 100

# Line and paragraph separators, and the marks that reorder text on the screen ("Trojan source").
_HIDDEN = frozenset([0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
_CONTROLS = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},
    0x7F: "\u2421",
    **{code: f"<{code:02X}>" for code in range(0x80, 0xA0)},
    **{code: f"<{code:04X}>" for code in _HIDDEN},
}


def safe_text(text: str) -> str:
    """The text with its control characters made visible: an escape becomes U+241B; newline and tab stay."""
    return text.replace("\r\n", "\n").translate(_CONTROLS)


def safe_line(text: str) -> str:
    """The same on one line: a name may hold a newline, and would seem to be two."""
    return safe_text(text).replace("\n", "\u240a").replace("\t", "\u2409")


def cell_width(text: str) -> int:
    """Columns that the text takes; characters that the table does not know count as one."""
    width = wcswidth(text)
    return width if width >= 0 else sum(max(wcwidth(character), 0) for character in text)


def styled(text: str, style: str) -> str:
    """The text within one SGR style, and nothing left switched on behind it."""
    return f"\x1b[{style}m{text}\x1b[0m" if style and text else text
