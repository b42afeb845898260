"""Plots: well-formed SVG that holds every label, whatever the label says."""

import math
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
    svg = line_chart([Series(label="a", points=[(0, 8.0), (9, 1.0)])], [("gzip", 2.1), ("xz", 2.0)], **LABELS)
    places = {
        element.text: float(element.get("y", "nan"))
        for element in ElementTree.fromstring(svg).iter("text")
        if element.text in ("gzip 2.1", "xz 2")
    }
    assert abs(places["gzip 2.1"] - places["xz 2"]) >= 12


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
