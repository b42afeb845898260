"""report.html: one file that tells what was made, how well it works and what it cannot do.

In:  a run's folder (see collect). Out: run/report.html, which needs nothing else: style and drawings
stand in it, it holds no script, and its own content policy forbids any.

What a model or a text wrote is never markup: the template escapes every value, the plots escape theirs,
and control characters become visible signs.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader
from markupsafe import Markup

from ownlm.artefact import write_atomically
from ownlm.report import words
from ownlm.report.collect import RunFacts, collect, equal_runs, flat, spread
from ownlm.report.plots import Bar, BarGroup, Series, interval_bars, line_chart

TEMPLATES = Path(__file__).parent / "templates"
REPORT_NAME = "report.html"
WIDTHS = {"wide": 720, "narrow": 344}  # each drawn for its screen, so that labels stay readable on a phone

KIND_NAMES = {
    "fact": "Facts, asked in new wordings",
    "expression": "Expressions never trained on",
    "refusal": "Out-of-scope questions declined",
    "in_scope": "In-scope questions not declined",
    "near_miss": "Names that do not exist, declined",
}
LINE_NAMES = {"uniform": "guessing", "gzip": "gzip", "xz": "xz"}
# Signs for control characters; tab and newline stay. U+2028 and U+2029 are newlines to some readers.
VISIBLE = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {0x7F: 0x2421, 0x2028: 10, 0x2029: 10}


def write_report(run: Path) -> Path:
    """Write report.html into `run`, and say where it is. An older report is replaced."""
    path = run / REPORT_NAME
    write_atomically(path, render(collect(run)).encode("utf-8", errors="replace"))
    return path


def render(facts: RunFacts) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=ChainableUndefined,  # what was not measured is left out, not an error
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "in_words": words.in_words,
        "duration": words.duration,
        "size": words.size,
        "percent": words.percent,
        "decimals": words.decimals,
        "watt_hours": words.watt_hours,
        "kind": _kind_name,
        "one_line": words.one_line,
    }
    summary = facts.summary
    page = environment.get_template("report.html.jinja").render(
        summary
        | {
            "facts": facts,
            "style": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
            "curve": _curve(facts),
            "exam_rows": _exam_rows(summary),
            "exam_plot": _bars(_exam_groups(summary), "The exam, before and after fine-tuning"),
            "choose_plot": _bars(_choose_groups(summary), "Choosing the right docstring of four"),
            "samples": {prompt: spread(samples) for prompt, samples in facts.samples.items()},
            "memorisation_groups": _memorisation(summary),
            "settings": {name: flat(card.how) for name, card in facts.cards.items() if card.how},
            "plan_rows": flat(facts.plan),
            "machine": next((flat(card.machine | card.versions) for card in facts.cards.values()), []),
        }
    )
    return page.translate(VISIBLE)


def _curve(facts: RunFacts) -> Markup:
    """Bits per byte over steps. Training loss is in nats a token: bytes a token make the two comparable."""
    series = []
    bytes_per_token = _mapping(facts.summary, "tokenizer").get("bytes_per_token")
    if facts.training and bytes_per_token:
        bits = [(step, loss / math.log(2) / bytes_per_token) for step, loss in facts.training]
        series.append(Series(label="text it learns from", points=bits, color=1, faint=True))
    if facts.validation:
        series.append(Series(label="held-out text", points=facts.validation, color=0, dots=True))
    if not series:
        return Markup()
    last = facts.validation[-1][1] if facts.validation else series[0].points[-1][1]
    return Markup().join(
        _drawing(
            screen,
            line_chart(
                series,
                [(LINE_NAMES.get(name, name), value) for name, value in facts.reference_lines.items()],
                title="How well the model predicts text, while it learns",
                description=f"Bits per byte by training step; the last value is {last:.2f}. Lower is better.",
                x_label="training step",
                y_label="bits per byte (logarithmic; lower is better)",
                width=width,
                height=360 if screen == "wide" else 300,
                log_y=True,
            ),
        )
        for screen, width in WIDTHS.items()
    )


def _bars(groups: Sequence[BarGroup], title: str) -> Markup:
    sentences = [f"{group.label}: {bar.note}" for group in groups for bar in group.bars]
    return Markup().join(
        _drawing(screen, interval_bars(groups, title=title, description="; ".join(sentences), width=width))
        for screen, width in WIDTHS.items()
        if groups
    )


def _drawing(screen: str, svg: str) -> Markup:
    # plots.py escapes every label, so its text is markup by construction.
    return Markup('<div class="{}">').format(screen) + Markup(svg) + Markup("</div>")


def _bar(share: Mapping[str, Any], name: str, color: int) -> list[Bar]:
    if not share.get("n"):
        return []
    part = share["right"] / share["n"]
    note = f"{name} {100 * part:.0f} %"
    return [Bar(share=part, low=share.get("low", part), high=share.get("high", part), note=note, color=color)]


def _exam_groups(summary: Mapping[str, Any]) -> list[BarGroup]:
    before, after = _mapping(summary, "exam", "before"), _mapping(summary, "exam", "after")
    kinds = [kind for kind in (*KIND_NAMES, *after) if kind in after or kind in before]
    return [
        BarGroup(
            label=KIND_NAMES.get(kind, kind),
            bars=_bar(before.get(kind) or {}, "before", 1) + _bar(after.get(kind) or {}, "after", 0),
        )
        for kind in dict.fromkeys(kinds)
    ]


def _exam_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    before, after = _mapping(summary, "exam", "before"), _mapping(summary, "exam", "after")
    kinds = [kind for kind in dict.fromkeys((*KIND_NAMES, *after)) if kind in after or kind in before]
    return [{"kind": kind, "before": before.get(kind), "after": after.get(kind)} for kind in kinds]


def _choose_groups(summary: Mapping[str, Any]) -> list[BarGroup]:
    choose = _mapping(summary, "choose")
    rows = (
        ("pretrained", "With pretraining, tuned to the end", 0),
        ("as_long", "With pretraining, tuned as long as the one below", 0),
        ("scratch", "Without pretraining, tuned from scratch", 1),
    )
    groups = [
        BarGroup(label=label, bars=_bar(choose.get(name) or {}, "", color), chance=0.25) for name, label, color in rows
    ]
    return [group for group in groups if group.bars]


def _memorisation(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = summary.get("memorisation") or []
    titles = {"train": "Text that it was trained on", "validation": "Text held out, never seen"}
    groups = []
    for split, title in titles.items():
        of_split = [
            row | {"runs": equal_runs(str(row.get("written", "")), str(row.get("text", "")))}
            for row in rows
            if row.get("split") == split
        ]
        shares = [row["equal_share"] for row in of_split if row.get("equal_share") is not None]
        mean = sum(shares) / len(shares) if shares else None
        groups.append({"title": title, "rows": of_split, "mean": mean})
    return [group for group in groups if group["rows"]]


def _kind_name(kind: str) -> str:
    return KIND_NAMES.get(kind, kind)


def _mapping(value: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """value[a][b], or an empty mapping where something is missing."""
    for name in names:
        value = value.get(name) or {}
    return value
