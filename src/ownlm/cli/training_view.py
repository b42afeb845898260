"""A training run as a person watches it: a small block that moves, and lines that stay.

In:  the run's events, one by one. Out: on a terminal a block of five lines, redrawn four times a second, with samples
and milestones printed above it into the scrollback; elsewhere one `key=value` line every few seconds.
"""

import time
from typing import Any

from rich.console import Console, Group, OverflowMethod
from rich.live import Live
from rich.text import Text

from ownlm.cli.screen_text import safe_text
from ownlm.corpus.conversations.told import told_personal

BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
_NARROW = 60
_PLAIN_SECONDS = 10.0
_SMOOTHING = 0.9


class TrainingView:
    """Feed it events with `hear`; close it before anything else is printed."""

    def __init__(self, console: Console, *, asks: bool) -> None:
        """`asks`: samples are questions and answers, not continued texts."""
        self.console, self.asks = console, asks
        self.ascii = console.options.ascii_only  # a terminal whose encoding has no blocks and bars
        self.live: Live | None = None
        self.steps = 1
        self.loss: float | None = None
        self.rate = 0.0
        self.last: dict[str, Any] = {}
        self.validations: list[float] = []
        self.lines: dict[str, float] = {}
        self._printed_at, self._printed_step = 0.0, 0
        self._replaying = False

    def hear(self, event: dict[str, Any]) -> None:
        """Take in one event. Events of a resumed run's past change the figures and print nothing."""
        name = event["event"]
        if name in ("start", "resume"):
            # A record is played back from its start, with every resumption that it tells of.
            self._replaying = time.time() - event["time"] > 1.0
        if name == "start":
            self.steps = event["plan"]["steps"]
            self.lines = event.get("reference_lines", {})
            if "expected" in event:
                self._keep(expectation(event["expected"]))
            for line in told_personal(event["personal_data"]) if "personal_data" in event else ():
                self._keep(line)
        elif name == "resume":
            self._keep(f"going on from step {event['step']:,} of {self.steps:,}")
        elif name == "step":
            self._step(event)
        elif name == "validation":
            self.validations.append(event.get("bits_per_byte", event["loss"]))
            self._milestone(event)
        elif name == "sample":
            self._sample(event)
        elif name == "skip":
            self._keep(f"step {event['step']:,} skipped: {event['why']}", style="yellow")
        self._refresh(force=name in ("start", "resume"))

    def close(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None

    def _step(self, event: dict[str, Any]) -> None:
        self.last = event
        old_loss, old_rate = self.loss, self.rate
        new_rate = event["tokens_per_second"]
        self.loss = event["loss"] if old_loss is None else _SMOOTHING * old_loss + (1 - _SMOOTHING) * event["loss"]
        self.rate = _SMOOTHING * old_rate + (1 - _SMOOTHING) * new_rate if old_rate else new_rate

    def _milestone(self, event: dict[str, Any]) -> None:
        if "bits_per_byte" in event:
            slices = event.get("slices", {})
            parts = ", ".join(f"{name} {facts['bits_per_byte']:.2f}" for name, facts in slices.items())
            self._keep(f"step {event['step']:,}: held-out text {event['bits_per_byte']:.3f} bits per byte ({parts})")
        else:
            self._keep(f"step {event['step']:,}: held-out answers {event['loss']:.3f} nats a token")

    def _sample(self, event: dict[str, Any]) -> None:
        text = Text()
        text.append(f"  {event['step']:>6,}  ", style="dim")
        text.append(f"{safe_text(event['prompt'])} " if self.asks else safe_text(event["prompt"]), style="bold")
        text.append(" ".join(safe_text(event["text"]).split()) if self.asks else self._one_line(event["text"]))
        self._keep(text)

    def _keep(self, line: str | Text, style: str = "") -> None:
        """Print into the scrollback, above the block: cut at a terminal's edge, whole in a file."""
        if self._replaying:
            return
        text = line if isinstance(line, Text) else Text(line, style=style)
        if self.console.is_terminal:
            self.console.print(text, no_wrap=True, overflow=self._overflow)
        else:
            self.console.print(text, soft_wrap=True)

    def _refresh(self, *, force: bool) -> None:
        if self._replaying:
            return
        if not self.console.is_terminal or self.console.width < _NARROW or self.console.is_dumb_terminal:
            self._plain_line(force=force)
            return
        if self.live is None:
            self.live = Live(console=self.console, refresh_per_second=4, transient=True, auto_refresh=True)
            self.live.start()
        self.live.update(self._block())

    def _plain_line(self, *, force: bool) -> None:
        now = time.monotonic()
        step = self.last.get("step", 0)
        due = force or step == self.steps or now - self._printed_at >= _PLAIN_SECONDS
        if not due or step == self._printed_step:
            return
        self._printed_at, self._printed_step = now, step
        self.console.print(
            f"step={self.last['step']}/{self.steps} loss={self.loss:.3f} tokens_per_second={self.rate:.0f} "
            f"left={clock(self._seconds_left())} watt_hours={self.last['watt_hours']:.2f} "
            f"({self.last['energy_source']})",
            highlight=False,
            soft_wrap=True,
        )

    def _block(self) -> Group:
        width = min(self.console.width, 100) - 2
        step = self.last.get("step", 0)
        share = step / self.steps
        right = f" {share:4.0%}  {clock(self._seconds_left())} left"
        left = f"step {step:,} of {self.steps:,} "
        room = max(10, width - len(left) - len(right))
        bar = Text(left)
        done, open_ = "#-" if self.ascii else "━─"
        bar.append(done * round(room * share), style="green")
        bar.append(open_ * (room - round(room * share)), style="dim")
        bar.append(right)
        lines: list[Text] = [Text(), bar]
        if self.last:
            lines.append(
                Text(
                    f"loss {self.loss:.3f} nats a token   {self.rate:,.0f} tokens/s   "
                    f"{self.last['watt_hours']:.2f} Wh {self.last['energy_source']}"
                )
            )
        if self.validations:
            unit = "nats a token on held-out answers" if self.asks else "bits per byte on held-out text"
            blocks = ASCII_BLOCKS if self.ascii else BLOCKS
            lines.append(Text(f"{sparkline(self.validations[-30:], blocks)} {self.validations[-1]:.3f} {unit}"))
        if self.lines:
            known = "   ".join(f"{name} {value:.2f}" for name, value in self.lines.items())
            lines.append(Text(f"for comparison: {known}   (lower is better)", style="dim"))
        for line in lines:
            line.no_wrap, line.overflow = True, self._overflow
        return Group(*lines)

    @property
    def _overflow(self) -> OverflowMethod:
        return "crop" if self.ascii else "ellipsis"

    def _one_line(self, text: str) -> str:
        """Line breaks shown as a sign, so that a sample stays one line."""
        return safe_text(text).replace("\n", "\\n" if self.ascii else "⏎")

    def _seconds_left(self) -> float:
        step = self.last.get("step", 0)
        return self.last["seconds"] / step * (self.steps - step) if step else 0.0


def expectation(expected: dict[str, float]) -> str:
    """What a run will take, in a line."""
    minutes, memory, disk = (expected[name] for name in ("minutes", "memory_bytes", "disk_bytes"))
    return (
        f"by a measurement of this machine: about {minutes:.1f} minutes, {memory / 2**30:.1f} GiB of memory, "
        f"{max(disk / 2**20, 1):,.0f} MiB of disk"
    )


def sparkline(values: list[float], blocks: str = BLOCKS) -> str:
    """Values as a row of blocks, lowest to highest."""
    low, high = min(values), max(values)
    scale = (len(blocks) - 1) / (high - low) if high > low else 0.0
    return "".join(blocks[round((value - low) * scale)] for value in values)


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
