"""The quickstart, told in the terminal: stages, cut words, training, summary."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ownlm.cli.evaluate import print_evaluation
from ownlm.cli.screen_text import safe_text
from ownlm.cli.training_view import TrainingView
from ownlm.evaluation import Evaluation
from ownlm.journey import Narrator
from ownlm.report.words import in_words

_CUT_STYLES = ("black on bright_cyan", "black on bright_yellow", "black on bright_green", "black on bright_magenta")
_KINDS = {
    "fact": "facts, in wordings never trained",
    "expression": "expressions never trained",
    "refusal": "questions outside, declined",
    "in_scope": "questions inside, not declined",
    "near_miss": "names that do not exist, declined",
}

_CHOICES = {
    "scratch": "fitting docstring, if it had read nothing",
    "as_long": "the same, having read, tuned as long",
    "pretrained": "the same, having read, at the end",
}


class TerminalNarrator(Narrator):
    def __init__(self, run: Path, console: Console | None = None) -> None:
        self.run = run
        self.console = console or Console(highlight=False)
        self.view: TrainingView | None = None

    def stage(self, number: int, title: str, why: str) -> None:
        self.console.print()
        self.console.print(Text(f"{number}/{self.stages}  {title}", style="bold"))
        self.console.print(Text(why, style="dim"))

    def say(self, line: str) -> None:
        self.console.print(Padding(Text(safe_text(line)), (0, 0, 0, 2)))

    def cut(self, lines: list[list[str]]) -> None:
        for pieces in lines:
            text = Text("  ")
            for index, piece in enumerate(pieces):
                text.append(safe_text(piece), style=_CUT_STYLES[index % len(_CUT_STYLES)])
                if not self.console.color_system:
                    text.append("|")
            text.append(f"   {len(pieces)} tokens", style="dim")
            self.console.print(text)

    def training(self, stage: str, event: dict[str, Any]) -> None:
        if self.view is None:
            self.view = TrainingView(self.console, asks=stage != "pretrain")
        self.view.hear(event)

    def trained(self, stage: str) -> None:
        if self.view is not None:
            self.view.close()
        self.view = None

    def measured(self, evaluation: Evaluation) -> None:
        print_evaluation(evaluation)

    def summary(self, summary: dict[str, Any]) -> None:
        print_summary(self.console, summary, self.run)


def print_summary(console: Console, summary: dict[str, Any], run: Path) -> None:
    """The figures of summary.json as tables that fit 80 columns."""
    exam = summary["exam"]
    if exam["after"]:
        table = Table(box=None, padding=(0, 2, 0, 0), title="Exam: right answers of n", title_justify="left")
        for heading, side in (("", "left"), ("before", "right"), ("after", "right"), ("n", "right"), ("95 %", "right")):
            table.add_column(heading, justify=side)  # type: ignore[arg-type]
        for kind, after in exam["after"].items():
            before = exam["before"].get(kind, {"right": 0, "n": after["n"]})
            table.add_row(_KINDS[kind], _percent(before), _percent(after), str(after["n"]), _interval(after))
        choose = summary.get("choose") or {}
        for name, title in _CHOICES.items():
            if name in choose:
                table.add_row(title, "", _percent(choose[name]), str(choose[name]["n"]), _interval(choose[name]))
        console.print()
        console.print(table)
    training, model, energy = summary["training"], summary["model"], summary["energy"]
    bits, words = training["bits_per_byte"], training["perplexity_per_word"]
    slices = ", ".join(f"{name} {value:.2f}" for name, value in bits["slices"].items())
    lines = training["reference_lines"]
    comparison = ", ".join(f"{name} {value:.2f}" for name, value in lines.items())
    rows = [
        ("bits per byte", f"{bits['before']:.2f} before, {bits['after']:.3f} after ({slices}); {comparison}"),
        ("next word", f"as unsure as among {in_words(words['after'])} equally likely ones (perplexity per word)"),
        ("model", f"{model['parameters']:,} parameters, {model['config']['num_hidden_layers']} layers"),
        ("training", f"{training['tokens']:,} tokens, {training['flops']:.2g} operations"),
        ("time", f"{summary['minutes']['total']:.1f} minutes"),
        ("energy", f"{energy['watt_hours']:.2f} Wh, {energy['source']}: {energy['method']}"),
        ("memory", f"{summary['peak_memory_bytes'] / 2**30:.2f} GiB at most"),
        ("model folder", str(run / summary["paths"]["model"])),
        ("report", str(run / summary["paths"]["report"])),
    ]
    grid = Table.grid(padding=(0, 2, 0, 0))
    for name, value in rows:
        grid.add_row(Text(name, style="dim"), Text(value))
    console.print()
    console.print(grid)
    console.print()
    console.print("What to try next:")
    for line in summary["next"]:
        command, _, why = line.partition("   ")
        console.print(Text.assemble("  ", command, ("  " + why, "dim")), soft_wrap=True)


def _percent(share: dict[str, Any]) -> str:
    return f"{share['right'] / share['n']:.0%}" if share["n"] else "-"


def _interval(share: dict[str, Any]) -> str:
    return f"{share['low']:.0%} to {share['high']:.0%}"
