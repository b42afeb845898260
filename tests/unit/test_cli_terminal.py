"""The terminal's rules: colours, control characters, widths, wrapping."""

import io
import os
import random

import pytest

from ownlm.cli.screen_text import cell_width, safe_text, styled
from ownlm.cli.terminal import Terminal, use_color
from ownlm.cli.wrap import WordWrap, wrap_text


class Tty(io.StringIO):
    def isatty(self):
        return True


def wrapped(pieces, columns, hang=0):
    wrap = WordWrap(lambda: columns)
    wrap.hang = hang
    return "".join(wrap.push(piece) for piece in pieces) + wrap.finish()


@pytest.mark.parametrize(
    ("choice", "environ", "tty", "plain"),
    [
        ("auto", {}, True, False),
        ("auto", {"NO_COLOR": "1"}, True, True),
        ("auto", {"NO_COLOR": ""}, True, False),
        ("auto", {"TERM": "dumb"}, True, True),
        ("never", {"NO_COLOR": ""}, True, True),
        ("always", {"NO_COLOR": "1"}, False, False),
    ],
)
def test_who_gets_colour(choice, environ, tty, plain):
    assert use_color(Tty(), choice, environ) is not plain
    assert use_color(io.StringIO(), "auto", environ) is False


def test_control_characters_lose_their_power():
    assert safe_text("a\x1b[31mb\x07\x00\x7f\x9bc\u202e\td\r\ne\r") == "a␛[31mb␇␀␡<9B>c<202E>\td\ne␍"
    every = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0)]))
    assert all(character in "\n\t" or character.isprintable() for character in safe_text(every))


def test_widths_count_wide_and_combining_characters():
    assert (cell_width("abc"), cell_width("日本"), cell_width("e\u0301"), cell_width("\x1b")) == (3, 4, 1, 0)


def test_words_are_kept_whole_however_the_text_is_cut():
    text = "one two  three\n    four fivefive sixsix\n\n" + "word " * 30
    whole = wrapped([text], 21)
    assert all(len(line) <= 20 for line in whole.split("\n"))
    assert whole.split() == text.split()
    generator = random.Random(0)
    for _ in range(50):
        cuts = sorted(generator.sample(range(len(text)), 9))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert wrapped(pieces, 21) == whole


def test_one_word_is_held_back_and_no_more():
    wrap = WordWrap(lambda: 80)
    assert wrap.push("the qui") == "the"
    assert wrap.push("ck fox") == " quick"
    assert wrap.finish() == " fox\n"
    assert wrap.finish() == ""


def test_continued_lines_hang():
    assert wrapped(["- aaa bbb ccc ddd"], 11, hang=2) == "- aaa bbb\n  ccc ddd\n"
    assert wrap_text("  aaa bbb ccc\nd", 11) == "  aaa bbb\n  ccc\nd"


def test_wide_characters_part_without_a_space_but_not_before_a_full_stop():
    lines = wrapped(["日本語日本語。日本語"], 7).split("\n")
    assert lines == ["日本語", "日本", "語。日", "本語", ""]
    assert "".join(lines) == "日本語日本語。日本語"
    family = "\U0001f468\u200d\U0001f469"
    assert family in wrapped(["aaaa " + family], 7)


def test_a_word_longer_than_the_line_is_left_to_the_terminal():
    address = "https://example.org/" + "x" * 60
    assert wrapped(["see " + address + " now"], 31) == f"see\n{address} now\n"
    assert wrapped([*("see " + address)], 21) == f"see\n{address}\n"


def test_no_limit_means_no_wrapping():
    text = "word " * 100
    assert wrapped([text], None) == text.rstrip() + "\n"
    assert wrap_text(text, None).rstrip() == text.rstrip()


def test_a_style_is_closed_in_every_word():
    wrap = WordWrap(lambda: 80)
    out = wrap.push("a bold", "1") + wrap.push(" plain ") + wrap.finish()
    assert out == "\x1b[1ma\x1b[0m \x1b[1mbold\x1b[0m plain\n"
    assert styled("", "1") == ""


def test_letters_that_the_locale_lacks_are_written_as_numbers():
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    stderr = io.StringIO()
    terminal = Terminal(io.StringIO(), stdout, stderr, environ={})
    terminal.answer("caf\u00e9 \ud800")
    assert stdout.buffer.getvalue() == b"caf\\xe9 \\ud800"
    terminal.note("a note\x1b")
    assert stderr.getvalue() == "a note␛\n"


def test_the_prompt_goes_to_stderr_so_that_a_file_gets_answers_only():
    stdin, stderr = Tty(), Tty()
    terminal = Terminal(stdin, io.StringIO(), stderr, environ={})
    assert terminal.interactive
    assert terminal.screen is stderr
    assert terminal.columns() is None
    assert not Terminal(io.StringIO(), Tty(), Tty(), environ={}).interactive
    closed = io.StringIO()
    closed.close()
    assert not Terminal(closed, closed, closed, environ=os.environ).interactive
