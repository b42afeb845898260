"""The chat on a real terminal: tmux draws it, we read the screen and the bytes that went to it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripted_server import EVENTS, GONE, delta, end, http, models, said, scripted

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
FAKE = Path(__file__).with_name("fake_chat.py")
WORDS = "The quick brown foxes jump over extraordinarily lazy dogs near internationalization offices. " * 6


class Screen:
    def __init__(self, folder, width, height, command):
        self.folder = folder
        self.socket = str(folder / "tmux")
        self.log = folder / "bytes"
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), "sh")
        self.tmux("pipe-pane", f"cat >> {self.log}")
        self.keys(f"PS1='$ '; clear; {sys.executable} {command}; echo code=$?")
        self.keys("Enter")
        self.wait_for("Ctrl-D leaves.")
        self.wait_for_prompt()

    def tmux(self, *arguments):
        environment = {**os.environ, "LC_ALL": "C.UTF-8"} | {"NO_COLOR": ""}
        environment.pop("TMUX", None)
        done = subprocess.run(
            ["tmux", "-u", "-S", self.socket, *arguments],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        return done.stdout

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def text(self):
        return self.tmux("capture-pane", "-p", "-S", "-500").rstrip("\n")

    def wait_for(self, text, seconds=60.0):
        end = time.monotonic() + seconds
        while text not in self.text():
            assert time.monotonic() < end, f"{text!r} did not appear in:\n{self.text()}"
            time.sleep(0.03)

    def wait_for_prompt(self):
        end = time.monotonic() + 60  # a busy machine takes long to start a process
        while not self.text().endswith("\n>"):
            assert time.monotonic() < end, self.text()
            time.sleep(0.03)

    def answer(self):
        """The lines between the last question and its figures."""
        return self.text().rpartition("> ")[2].partition("\n")[2].partition("\n(")[0]

    def modes(self):
        """cursor shown, and what stty says of line mode and echo (asked once the chat has ended)."""
        self.keys("stty -a | tr ';' '\\n' | tr ' ' '\\n' | grep -xE -- '-?(echo|icanon|icrnl)' | xargs echo modes=")
        self.keys("Enter")
        self.wait_for("\nmodes=")
        shown = self.tmux("display-message", "-p", "#{cursor_flag}").strip()
        return shown, sorted(re.findall(r"^modes=(.*)$", self.text(), re.MULTILINE)[-1].split())


ORDERLY = ("1", ["echo", "icanon", "icrnl"])


@pytest.fixture
def open_chat(tmp_path):
    opened = []

    def start(width=80, height=24, *, command=None, **setup):
        folder = tmp_path / str(len(opened))
        folder.mkdir()
        opened.append(Screen(folder, width, height, command or f"{FAKE} '{json.dumps(setup)}'"))
        return opened[-1]

    yield start
    for screen in opened:
        screen.tmux("kill-server")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_an_answer_is_wrapped_at_words_and_never_repainted(open_chat, width, height):
    screen = open_chat(width, height, delay=0.002, answers=[WORDS])
    screen.keys("hello", "Enter")
    screen.wait_for("ended by itself)")
    lines = screen.answer().split("\n")
    assert " ".join(lines).split() == WORDS.split(), "a word was cut, lost or doubled"
    assert len(lines) > 4
    assert all(len(line) <= min(width, 100) for line in lines)
    shown = screen.log.read_bytes().partition(b"\nThe quick")[2].partition(b"(")[0]
    assert not re.search(rb"\x1b\[[0-9;]*[A-HJKf]|\x1b[78M]|\r[^\n\r]", shown), "the cursor went back"


def test_a_stopped_answer_stays_and_the_conversation_goes_on(open_chat):
    screen = open_chat(delay=0.02, answers=[WORDS, "I see."])
    screen.keys("hello", "Enter")
    screen.wait_for("extraordinarily")
    screen.keys("C-c")
    screen.wait_for("stopped by Ctrl-C)")
    assert "^C" not in screen.text()
    screen.keys("and now?", "Enter")
    screen.wait_for("I see.")
    screen.wait_for_prompt()
    screen.keys("C-d")
    screen.wait_for("code=0")
    assert screen.modes() == ORDERLY


def test_ctrl_c_clears_the_line_and_twice_leaves_at_an_empty_prompt(open_chat):
    screen = open_chat(answers=["I see."])
    screen.keys("half a question", "C-c")
    screen.wait_for_prompt()
    screen.keys("C-c")
    screen.wait_for("Ctrl-C again to leave.\n>")
    screen.keys("another", "C-c")
    screen.wait_for_prompt()
    screen.keys("C-c")  # the cleared line stood between the presses
    screen.wait_for(">\nCtrl-C again to leave.\n>\nCtrl-C again to leave.\n>")
    screen.keys("hello", "Enter")
    screen.wait_for("I see.")
    screen.wait_for_prompt()
    screen.keys("C-c")
    screen.wait_for("itself)\n\n>\nCtrl-C again to leave.\n>")
    screen.keys("C-c")
    screen.wait_for("code=0")
    assert screen.modes() == ORDERLY


def test_ctrl_c_just_after_a_short_answer_keeps_the_conversation(open_chat):
    """Wherever between the last token and the next prompt it falls, it is no wish to leave."""
    for _ in range(4):
        screen = open_chat(answers=["Hi."])
        screen.keys("hello", "Enter")
        screen.wait_for("Hi.")
        screen.keys("C-c")
        screen.wait_for_prompt()
        screen.keys("more", "Enter")
        screen.wait_for("> more\nHi.")


def test_several_pasted_lines_are_one_message_also_during_an_answer(open_chat):
    screen = open_chat(delay=0.03, answers=["got [{question}]", "slowly " * 20, "got [{question}]"])
    screen.tmux("set-buffer", "first\nsecond\nthird")
    screen.tmux("paste-buffer", "-p")
    screen.wait_for("  third")
    screen.keys("Enter")
    screen.wait_for("got [first\nsecond\nthird]")
    screen.wait_for_prompt()
    screen.keys("go", "Enter")
    screen.wait_for("slowly slowly")
    screen.tmux("paste-buffer", "-p")
    assert screen.text().count("third") == 2, "it must not show up within the answer"
    screen.wait_for("slowly\n(41 tokens")
    screen.wait_for("itself)\n\n> first\n  second\n  third", 2)
    screen.keys("Enter")
    screen.wait_for_prompt()
    assert screen.text().count("got [first\nsecond\nthird]\n(") == 2


def test_alt_enter_begins_a_new_line_and_edit_brings_the_question_back(open_chat):
    screen = open_chat(answers=["got [{question}]"])
    screen.keys("one", "M-Enter", "two", "Enter")
    screen.wait_for("got [one\ntwo]")
    screen.wait_for_prompt()
    screen.keys("/edit", "Enter")
    screen.wait_for("> one\n  two", 5)
    screen.keys(" three", "Enter")
    screen.wait_for("got [one\ntwo three]")
    screen.wait_for_prompt()
    screen.keys("Up")
    screen.wait_for("> one\n  two three")


def test_a_backslash_at_the_end_begins_a_new_line(open_chat):
    screen = open_chat(answers=["got [{question}]"])
    screen.keys("one\\", "Enter", "two", "Enter")
    screen.wait_for("got [one\ntwo]")


def test_a_servers_bad_answers_leave_the_conversation_and_its_questions_outlive_it(open_chat, tmp_path):
    thinks = [EVENTS, delta(reasoning_content=WORDS), delta(content="I "), delta(content="am."), end(tokens=9)]
    busy = http(429, {"error": {"message": "full"}}, retry_after="3")
    answers = models("far"), thinks, busy, [EVENTS, delta(content="half")], [EVENTS, delta(content="x y"), GONE]
    with scripted(*answers, said("Yes."), models("far")) as server:
        chat = f"-m ownlm.cli chat --url {server.url} --history {tmp_path / 'asked'}"
        screen = open_chat(command=chat)
        assert f"You are talking with far at {server.url}/v1." in screen.text()
        for question, shown in (
            ("Who?", "(it thinks:)\nThe quick"),
            ("More?", "is busy (full); try again in 3 s"),
            ("More?", "half\nownlm: http"),
            ("/where", "ownlm chat FOLDER"),
            ("Wait?", "Wait?\nx"),
            ("More?", "Yes."),
        ):
            screen.keys(question, "Enter")
            screen.wait_for(shown)
            if question == "Wait?":
                screen.keys("C-c")
                assert server.left.wait(10)
            screen.wait_for_prompt()
        assert "stopped by Ctrl-C)" in screen.text()
        assert "offices.\n\nI am.\n(9 tokens" in screen.text()
        roles = [message["content"] for message in server.asked[-1][2]["messages"]]
        assert roles == ["Who?", "I am.", "Wait?", "x y", "More?"]
        screen.keys("C-d")
        screen.wait_for("code=0")
        screen = open_chat(command=chat)
        screen.keys("Up", "Up")
        screen.wait_for("> Wait?")
    assert (tmp_path / "asked").stat().st_mode & 0o077 == 0


def test_a_resize_during_an_answer_wraps_the_rest_at_the_new_width(open_chat):
    screen = open_chat(100, 30, delay=0.01, answers=[WORDS])
    screen.keys("hello", "Enter")
    screen.wait_for("internationalization")
    screen.tmux("resize-window", "-x", "50", "-y", "30")
    screen.wait_for("ended by itself)", 20)
    lines = screen.answer().split("\n")
    assert all(len(line) <= 50 for line in lines)
    assert all(line.split()[-1] in WORDS.split() for line in lines[-5:])


def test_a_signal_to_end_leaves_the_terminal_in_order(open_chat, tmp_path):
    for moment in ("prompt", "answer"):
        screen = open_chat(delay=0.02, answers=[WORDS])
        if moment == "answer":
            screen.keys("hello", "Enter")
            screen.wait_for("quick")
        shell = screen.tmux("display-message", "-p", "#{pane_pid}").strip()
        child = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[0]
        os.kill(int(child), signal.SIGTERM)
        screen.wait_for("code=143")
        assert screen.modes() == ORDERLY, moment


def test_escape_sequences_of_the_model_do_not_reach_the_terminal(open_chat):
    screen = open_chat(answers=["a\x1b]0;owned\x07b\x1b[2Jc\x9b31md"])
    screen.keys("hello", "Enter")
    screen.wait_for("a␛]0;owned␇b␛[2Jc<9B>31md")
