"""The training as it is watched: a block that fits the screen, lines that stay, plain lines in a file."""

import io
import time
from typing import Any

import pytest
from rich.console import Console

from ownlm.cli.training_view import ASCII_BLOCKS, BLOCKS, TrainingView, sparkline

PLAN = {"steps": 10}


def event(name: str, step: int, **facts: Any) -> dict[str, Any]:
    return {"event": name, "step": step, "time": time.time(), **facts}


def step(number: int, loss: float = 3.0) -> dict[str, Any]:
    facts = {"tokens_per_second": 1000.0, "seconds": 2.0 * number, "watt_hours": 0.1, "energy_source": "estimated"}
    return event("step", number, loss=loss, **facts)


STORY = [
    event("start", 0, plan=PLAN, reference_lines={"uniform": 8.0, "gzip": 2.1}),
    event("validation", 0, loss=7.0, bits_per_byte=4.0, slices={"prose": {"bits_per_byte": 4.0}}),
    step(1),
    event("sample", 1, prompt="Return", text=" the\nlist " + "and so on " * 40),
    event("skip", 2, why="no target in the batch"),
    event("validation", 5, loss=4.0, bits_per_byte=2.5),
    step(5),
]


class Encoded(io.TextIOWrapper):
    """A terminal of a given encoding."""

    def __init__(self, encoding: str) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding=encoding, errors="backslashreplace", write_through=True)

    def text(self) -> str:
        return self.bytes.getvalue().decode(self.encoding)


def told(width: int, *, terminal: bool, encoding: str = "utf-8") -> tuple[str, str]:
    """What the story prints, and the block at its end."""
    stream = Encoded(encoding)
    console = Console(file=stream, width=width, height=24, force_terminal=terminal, color_system=None)
    view = TrainingView(console, asks=False)
    for each in STORY:
        view.hear({**each, "time": time.time()})  # an older one would be a record played back
    with console.capture() as captured:
        console.print(view._block())
    view.close()
    return stream.text(), captured.get()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_block_is_a_few_lines_that_fit(width: int) -> None:
    out, block = told(width, terminal=True)
    lines = block.rstrip("\n").split("\n")
    assert len(lines) <= 12 and all(len(line) <= width for line in lines)
    assert "step 5 of 10" in block and "50%" in block and "gzip 2.10" in block and "2.500 bits per byte" in block
    assert all(len(line) <= width for line in out.replace("\r", "\n").split("\n") if "\x1b" not in line)
    assert "Return the⏎list" in out and "…" in out and "skipped" in out


def test_a_terminal_without_blocks_gets_plain_characters() -> None:
    out, block = told(80, terminal=True, encoding="iso-8859-1")
    assert out.isascii() and block.isascii() and "\\u" not in out
    assert "#####" in block and "-----" in block and "Return the\\nlist" in out


@pytest.mark.parametrize("width", [50, 80])
def test_a_file_and_a_narrow_terminal_get_a_line_now_and_then(width: int) -> None:
    out, _ = told(width, terminal=width < 60)
    assert "step=1/10 loss=3.000 tokens_per_second=1000 left=0:18 watt_hours=0.10 (estimated)" in out
    assert "step=5" not in out, "too soon after the last one"
    assert "\x1b[1A" not in out


def test_the_past_of_a_resumed_run_is_not_told_again() -> None:
    stream = io.StringIO()
    view = TrainingView(Console(file=stream, width=80), asks=False)
    for each in STORY:
        view.hear({**each, "time": time.time() - 100})
    assert stream.getvalue() == ""
    view.hear(event("resume", 5))
    assert stream.getvalue().startswith("going on from step 5 of 10\n")


def test_a_sparkline_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([1.0, 8.0, 4.5]) == BLOCKS[0] + BLOCKS[7] + BLOCKS[4]
    assert sparkline([2.0, 2.0], ASCII_BLOCKS) == ASCII_BLOCKS[0] * 2
