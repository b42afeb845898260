"""Plots as SVG text: a line chart with reference lines, and bars with interval whiskers.

In:  numbers and labels. Out: one <svg> element with a title and a description for those who cannot see
it. Colours are CSS variables that the page sets for light and dark; series differ by dash as well, so
nothing is said by colour alone. Every label is escaped: it may come from a model or a user's text.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

CHARACTER_WIDTH = 6.6  # of the 12 px labels, measured generously: a label then never leaves the picture
LINE_HEIGHT = 15
DASHES = ("", "7 4", "2 3", "9 3 2 3")


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points joined by a line; `faint` for the background, `dots` where each point was measured."""

    label: str
    points: Sequence[tuple[float, float]]
    color: int = 0
    faint: bool = False
    dots: bool = False


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A share of 1 with its interval, and the words that stand beside it."""

    share: float
    low: float
    high: float
    note: str
    color: int = 0


@dataclass(frozen=True, kw_only=True)
class BarGroup:
    label: str
    bars: Sequence[Bar]
    chance: float | None = None


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Maps a value onto the picture. Logarithmic axes leave out what is not positive."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        return _log_ticks(self.low, self.high, most) if self.logarithmic else _ticks(self.low, self.high, most)


def line_chart(
    series: Sequence[Series],
    references: Sequence[tuple[str, float]] = (),
    *,
    title: str,
    description: str,
    x_label: str,
    y_label: str,
    width: int = 720,
    height: int = 340,
    log_x: bool = False,
    log_y: bool = False,
) -> str:
    """The chart, or an empty string when there is no point to draw."""
    series = [_drawable(one, log_x, log_y) for one in series]
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    if not xs:
        return ""
    references = [(label, y) for label, y in references if not log_y or y > 0]
    ys += [y for _, y in references]
    names = [f"{label} {_short(y)}" for label, y in references]
    margin = 14 + CHARACTER_WIDTH * max(map(len, names)) if names else 12
    top, bottom, left, right = 46, height - 44, 44, width - margin
    x_axis = Axis(low=min(xs), high=_above(min(xs), max(xs)), start=left, end=right, logarithmic=log_x)
    low = min(ys) / 1.12 if log_y else min(0.0, *ys)
    y_axis = Axis(
        low=low, high=_above(low, max(ys) * (1.08 if log_y else 1.04)), start=bottom, end=top, logarithmic=log_y
    )
    parts = _grid(x_axis, y_axis, width)
    parts += _references(references, y_axis, left, right)
    parts += [_draw(one, x_axis, y_axis) for one in series]
    parts.append(_text((left + right) / 2, height - 6, x_label, "muted", "middle"))
    parts.append(_text(4, 13, y_label, "muted"))
    parts += _legend([one for one in series if one.points], width - 12)
    return _svg(parts, title, description, width, height)


def interval_bars(groups: Sequence[BarGroup], *, title: str, description: str, width: int = 720) -> str:
    """Horizontal bars from 0 to 100 %, whiskers for the interval, a dashed tick where chance lies."""
    groups = [group for group in groups if group.bars]
    if not groups:
        return ""
    note_width = CHARACTER_WIDTH * max(len(bar.note) for group in groups for bar in group.bars) + 14
    axis = Axis(low=0.0, high=1.0, start=2, end=width - note_width)
    parts, y = [], 0.0
    for group in groups:
        parts.append(_text(2, y + 14, group.label))
        y += 22
        first = y
        for bar in group.bars:
            parts.append(_bar(bar, axis, y))
            y += 20
        if group.chance is not None:
            x = axis.place(group.chance)
            parts.append(f'<line class="reference" x1="{x:.1f}" x2="{x:.1f}" y1="{first - 3}" y2="{y}"/>')
        y += 14
    ruler = f'<line class="axis" x1="2" x2="{axis.end:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
    shares = ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    labels = [_text(axis.place(share), y + 16, f"{share:.0%}", "muted", anchor) for share, anchor in shares]
    return _svg([*parts, ruler, *labels], title, description, width, round(y + 24))


def _bar(bar: Bar, axis: Axis, y: float) -> str:
    middle, low, high, end = y + 7, axis.place(bar.low), axis.place(bar.high), axis.place(bar.share)
    whisker = f"M{low:.1f} {middle - 4}V{middle + 4}M{low:.1f} {middle}H{high:.1f}M{high:.1f} {middle - 4}V{middle + 4}"
    return (
        f'<rect class="track" x="{axis.start}" y="{y}" width="{axis.end - axis.start:.1f}" height="14"/>'
        f'<rect class="fill{bar.color}" x="{axis.start}" y="{y}" width="{max(end - axis.start, 1):.1f}" height="14"/>'
        f'<path class="whisker-under" d="{whisker}"/><path class="whisker" d="{whisker}"/>'
        + _text(axis.end + 12, y + 11, bar.note)
    )


def _drawable(one: Series, log_x: bool, log_y: bool) -> Series:
    kept = [
        (x, y)
        for x, y in one.points
        if math.isfinite(x) and math.isfinite(y) and (x > 0 or not log_x) and (y > 0 or not log_y)
    ]
    return Series(label=one.label, points=kept, color=one.color, faint=one.faint, dots=one.dots)


def _draw(one: Series, x_axis: Axis, y_axis: Axis) -> str:
    places = [(x_axis.place(x), y_axis.place(y)) for x, y in one.points]
    if not places:
        return ""
    line = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dash = _dash(one)
    kind = f"line{one.color}" + (" faint" if one.faint else "")
    drawn = f'<path class="{kind}" d="{line}" stroke-dasharray="{dash}"/>'
    if one.dots:
        drawn += "".join(f'<circle class="dot{one.color}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places)
    return drawn


def _grid(x_axis: Axis, y_axis: Axis, width: int) -> list[str]:
    parts = []
    for value in y_axis.ticks(6):
        y = y_axis.place(value)
        parts.append(f'<line class="grid" x1="{x_axis.start}" x2="{x_axis.end}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(x_axis.start - 6, y + 4, _short(value), "muted", "end"))
    bottom = y_axis.start
    parts.append(f'<line class="axis" x1="{x_axis.start}" x2="{x_axis.end}" y1="{bottom}" y2="{bottom}"/>')
    for value in x_axis.ticks(max(2, width // 110)):
        x = x_axis.place(value)
        anchor = "end" if x > x_axis.end - 14 else "middle"
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(_text(x, bottom + 18, _short(value), "muted", anchor))
    return parts


def _references(references: Sequence[tuple[str, float]], axis: Axis, left: float, right: float) -> list[str]:
    """Dashed lines, named in the margin, where no curve can pass through a name; names that would touch are moved."""
    ordered = sorted(references, key=lambda pair: -pair[1])
    lines = [axis.place(value) for _, value in ordered]
    parts = []
    for (label, value), line, name in zip(ordered, lines, _apart(lines, axis), strict=True):
        parts.append(f'<path class="reference" d="M{left} {line:.1f}H{right:.1f}"/>')
        # A moved name is tied to its line.
        parts.append(f'<path class="tie" d="M{right:.1f} {line:.1f}L{right + 7:.1f} {name:.1f}"/>')
        parts.append(_text(right + 10, name + 4, f"{label} {_short(value)}", "muted"))
    return parts


def _apart(places: Sequence[float], axis: Axis) -> list[float]:
    """`places` from top to bottom, moved as little as keeps a line of text between neighbours and all in the plot."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + LINE_HEIGHT if moved else axis.end))
    lowest = axis.start
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], lowest)
        lowest = moved[index] - LINE_HEIGHT
    return moved


def _dash(one: Series) -> str:
    # A faint series is told apart by its width; dashes would only blur its noise.
    return "" if one.faint else DASHES[one.color % len(DASHES)]


def _legend(series: Sequence[Series], right: float) -> list[str]:
    parts, x = [], right
    for one in reversed(series):
        x -= CHARACTER_WIDTH * len(one.label)
        parts.append(_text(x, 31, one.label))
        dash = _dash(one)
        kind = f"line{one.color}" + (" faint" if one.faint else "")
        parts.append(f'<path class="{kind}" d="M{x - 30:.1f} 27H{x - 6:.1f}" stroke-dasharray="{dash}"/>')
        x -= 44
    return parts


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    attributes = f' class="{kind}"' if kind else ""
    return f'<text{attributes} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(parts: Sequence[str], title: str, description: str, width: int, height: int) -> str:
    head = f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img">{head}{"".join(parts)}</svg>'


def _above(low: float, high: float) -> float:
    """A range must not be empty, also when all values are one value."""
    return high if high > low else low + (abs(low) or 1.0)


def _ticks(low: float, high: float, most: int) -> list[float]:
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 1.5, 2, 3, 4, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [10.0**decade * factor for decade in decades for factor in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= most + 1:
            break
    return ticks


def _short(value: float) -> str:
    """Axis labels: 1500 -> 1.5k, 2000000 -> 2M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.3g}"
