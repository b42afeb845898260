"""Plots: well-formed SVG that holds every label, whatever the label says."""

import math
import re
from xml.etree import ElementTree

import pytest

from ownlm.report.plots import Axis, Bar, BarGroup, Series, interval_bars, line_chart

LABELS = {"title": "Loss", "description": "falls", "x_label": "step", "y_label": "bits"}


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag == "text"]


def test_a_chart_has_title_description_axes_series_and_references() -> None:
    series = [Series(label="held out", points=[(1, 4.0), (10, 2.0), (100, 1.5)], dots=True)]
    svg = line_chart(series, [("gzip", 2.1), ("xz", 1.9)], **LABELS)
    root = ElementTree.fromstring(svg)
    assert [root.find("title").text, root.find("desc").text] == ["Loss", "falls"]  # type: ignore[union-attr]
    assert {"step", "bits", "held out", "gzip 2.1", "xz 1.9"} <= set(texts(svg))
    assert len(list(root.iter("circle"))) == 3


def test_labels_of_close_references_do_not_stand_on_each_other() -> None:
    for values in ((2.1, 2.0), (8.0, 7.99), (0.01, 0.02), (2.0, 2.0)):
        references = list(zip(("gzip", "xz"), values, strict=True))
        svg = line_chart([Series(label="a", points=[(0, 8.0), (9, 1.0)])], references, **LABELS)
        high, low = sorted(float(name.get("y", "nan")) for name in named(svg))
        assert low - high >= 12 and high > 46 and low <= 340 - 40


def named(svg: str) -> list[ElementTree.Element]:
    return [name for name in ElementTree.fromstring(svg).iter("text") if (name.text or "").startswith(("gzip", "xz"))]


@pytest.mark.parametrize("width", [344, 720])
def test_no_line_is_drawn_through_the_name_of_a_reference(width: int) -> None:
    """Names stand in a margin of their own: every curve and line ends before it, and they end in the picture."""
    curve = Series(label="a", points=[(0, 2.2), (50, 2.0), (100, 1.9)], dots=True)
    svg = line_chart([curve], [("gzip", 2.1), ("xz", 1.95)], **LABELS, width=width)
    names = named(svg)
    margin = min(float(name.get("x", "nan")) for name in names)
    assert all(float(name.get("x", "nan")) + 6 * len(name.text or "") <= width for name in names)
    for element in ElementTree.fromstring(svg).iter("path"):
        if float(re.findall(r"M([\d.]+) ([\d.]+)", element.get("d", ""))[0][1]) > 46:  # below the legend
            assert all(float(x) < margin for x in re.findall(r"[MHL]([\d.]+)", element.get("d", "")))
    assert all(float(line.get("x2", "nan")) < margin for line in ElementTree.fromstring(svg).iter("line"))


@pytest.mark.parametrize("log_x", [False, True])
@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize(
    "points", [[(0.0, 1.0)], [(1.0, 0.0), (2.0, 0.0)], [(1.0, 3.0), (2.0, math.nan), (3.0, 3.0)], [(5.0, 1e-6)]]
)
def test_odd_points_never_break_a_chart(points: list[tuple[float, float]], log_x: bool, log_y: bool) -> None:
    svg = line_chart([Series(label="a", points=points)], log_x=log_x, log_y=log_y, **LABELS)
    assert "nan" not in svg and "inf" not in svg
    if svg:
        ElementTree.fromstring(svg)


def test_nothing_to_draw_gives_nothing() -> None:
    assert line_chart([], **LABELS) == ""
    assert interval_bars([], title="", description="") == ""


@pytest.mark.parametrize(("low", "high"), [(0.0, 8.0), (1.3, 1.4), (0.0, 123_456.0), (-3.0, 2.0)])
def test_ticks_lie_within_the_axis_and_are_few(low: float, high: float) -> None:
    ticks = Axis(low=low, high=high, start=0, end=100).ticks(6)
    assert 2 <= len(ticks) <= 7
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)


def test_whiskers_span_the_interval_and_labels_are_escaped() -> None:
    bar = Bar(share=0.5, low=0.4, high=0.6, note="<b>5 of 10</b>")
    svg = interval_bars([BarGroup(label="<script>", bars=[bar], chance=0.25)], title="t", description="d")
    assert "<script>" not in svg and {"<script>", "<b>5 of 10</b>"} <= set(texts(svg))
    fill = next(element for element in ElementTree.fromstring(svg).iter("rect") if element.get("class") == "fill0")
    track = next(element for element in ElementTree.fromstring(svg).iter("rect") if element.get("class") == "track")
    assert float(fill.get("width", 0)) == pytest.approx(float(track.get("width", 0)) / 2, abs=0.1)
