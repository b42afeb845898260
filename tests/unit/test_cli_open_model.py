"""The question before a starter is fetched, and the line that shows how far it is."""

import io
import sys
from types import SimpleNamespace

import pytest

from ownlm.cli import open_model
from ownlm.cli.open_model import ProgressLine, ask, asker


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "yes"), [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("", False), ("yellow\n", False)]
)
def test_only_a_yes_is_a_yes(monkeypatch: pytest.MonkeyPatch, typed: str, yes: bool) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stdin", Screen(typed))
    monkeypatch.setattr(sys, "stderr", screen)
    assert asker() is ask and ask("Fetch it?") is yes
    assert screen.getvalue().startswith("Fetch it? [y/N] ")


@pytest.mark.parametrize("name", ["stdin", "stderr"])
def test_nobody_is_asked_where_nobody_sits(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for stream in ("stdin", "stderr"):
        monkeypatch.setattr(sys, stream, io.StringIO() if stream == name else Screen())
    assert asker() is None


def test_progress_on_a_terminal_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(open_model.time, "monotonic", lambda: next(seconds))
    screen = Screen()
    with ProgressLine(screen) as progress:
        for done in (0, 46_000_000, 92_000_000):
            progress(done, 92_000_000)
    shown = screen.getvalue()
    assert shown.count("\n") == 1 and shown.endswith("100 %  92 of 92 MB\n")
    assert "50 %  46 of 92 MB, 10 s left" in shown


def test_progress_in_a_log_is_a_few_lines() -> None:
    log = io.StringIO()
    with ProgressLine(log) as progress:
        for done in range(0, 101):
            progress(done * 1_000_000, 100_000_000)
    assert log.getvalue().split("\n") == [*(f"  {part} of 100 MB" for part in (25, 50, 75, 100)), ""]


def test_nothing_fetched_nothing_shown() -> None:
    screen = Screen()
    with ProgressLine(screen):
        pass
    assert screen.getvalue() == ""


def test_a_model_is_talked_to_as_suits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user says goes before what the model suggests, and that before what suits most."""
    from ownlm.cli import chat, chat_loop
    from ownlm.cli.chat_session import ChatOptions

    asked: list[ChatOptions] = []
    monkeypatch.setattr(chat_loop, "run_chat", lambda model, options, **_: asked.append(options))
    suggested = {"temperature": 0.0, "repetition_penalty": 1.1, "top_k": 20}

    def opened(_: str) -> SimpleNamespace:
        return SimpleNamespace(suggested_sampling=suggested, use_adapter=lambda folder: None, arithmetic="float32")

    monkeypatch.setattr(open_model, "open_model", opened)
    chat.chat("smollm2")
    chat.chat("smollm2", temperature=0.7, top_k=0)
    suggested = {}
    chat.chat("smollm2")
    assert [options.temperature for options in asked] == [0.0, 0.7, ChatOptions.temperature]
    assert [options.repetition_penalty for options in asked] == [1.1, 1.1, 1.0]
    assert [options.top_k for options in asked] == [20, 0, 0] and asked[0].min_p == ChatOptions.min_p
