"""Figures in words: what a reader sees instead of 4128768 or 583.2.

In:  a number, or nothing. Out: a short string with its unit; empty for nothing, so that a report can
leave out what was not measured.
"""

import re

_NO_BREAK = "\N{NO-BREAK SPACE}"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def in_words(value: object) -> str:
    """4128768 -> '4.1 million'; below ten thousand, the number itself with a comma for thousands."""
    number = _number(value)
    if number is None:
        return ""
    for size, word in ((1e15, "thousand trillion"), (1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{_three_figures(number / size)}{_NO_BREAK}{word}"
    return f"{number:,.0f}" if number == int(number) or number >= 100 else _three_figures(number)


def duration(minutes: object) -> str:
    """9.72 -> '9 min 43 s'; 0.1 -> '6 s'; 135 -> '2 h 15 min'."""
    number = _number(minutes)
    if number is None:
        return ""
    seconds = round(number * 60)
    if seconds < 60:
        return f"{seconds}{_NO_BREAK}s"
    if seconds < 3600:
        return f"{seconds // 60}{_NO_BREAK}min {seconds % 60}{_NO_BREAK}s"
    return f"{seconds // 3600}{_NO_BREAK}h {seconds % 3600 // 60}{_NO_BREAK}min"


def size(number_of_bytes: object) -> str:
    """37_200_000 -> '37.2 MB', in powers of ten as disks are sold."""
    number = _number(number_of_bytes)
    if number is None:
        return ""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.0f}{_NO_BREAK}bytes" if unit == "bytes" else f"{number:.1f}{_NO_BREAK}{unit}"


def percent(share: object) -> str:
    number = _number(share)
    return "" if number is None else f"{100 * number:.0f}{_NO_BREAK}%"


def decimals(value: object, places: int = 2) -> str:
    number = _number(value)
    return "" if number is None else f"{number:,.{places}f}"


def watt_hours(value: object) -> str:
    """6.24 -> '6.2 Wh'; 0.034 -> '0.034 Wh'; 1240 -> '1.24 kWh'."""
    number = _number(value)
    if number is None:
        return ""
    amount, unit = (number / 1000, "kWh") if number >= 1000 else (number, "Wh")
    return f"{amount:.2g}{_NO_BREAK}{unit}" if amount < 10 else f"{_three_figures(amount)}{_NO_BREAK}{unit}"


def one_line(text: str, most: int = 120) -> str:
    """A sample in a line or two: line breaks as a sign (blank lines as two), spaces as one, the end cut off."""
    line = " ".join(text.replace("\n", " ⏎ ").split())
    line = re.sub(r"⏎(?: ⏎)+", "⏎⏎", line)
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def _three_figures(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}"
