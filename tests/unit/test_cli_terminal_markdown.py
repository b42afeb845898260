"""Markdown that streams: the same screen however the text is cut, and nothing ever painted again."""

import random

import pytest

from ownlm.cli.markdown_stream import MarkdownStream

TEXT = """# Title of it

Some *text* with `code here` and **bold words**, 2 ** 3, **kwargs and `open
- item one that is long enough to wrap
  1. inner item
> quoted words in a row that wrap too

```python
def f(x):
    return x  # a line of code that is far longer than the screen and stays as it is

    ``
```
~~~
tilde ``` inside
~~~
-5 is negative. #hash is no heading
**all bold**"""


def shown(pieces, *, color=True, columns=31):
    stream = MarkdownStream(lambda: columns, color=color)
    return "".join(stream.push(piece) for piece in pieces) + stream.finish()


def test_every_way_to_cut_the_text_gives_the_same():
    for color in (True, False):
        whole = shown([TEXT], color=color)
        assert shown([*TEXT], color=color) == whole
        generator = random.Random(1)
        for _ in range(100):
            cuts = sorted(generator.sample(range(len(TEXT)), 20))
            pieces = [TEXT[a:b] for a, b in zip([0, *cuts], [*cuts, len(TEXT)], strict=True)]
            assert shown(pieces, color=color) == whole


def test_without_colour_only_the_wrapping_is_added():
    plain = shown([TEXT], color=False)
    assert "\x1b" not in plain
    assert plain.split() == TEXT.split()
    assert shown([TEXT], color=False, columns=None) == TEXT + "\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# Hi\nx", "\x1b[1m#\x1b[0m \x1b[1mHi\x1b[0m\nx\n"),
        ("#no", "#no\n"),
        ("a `b` c", "a \x1b[36m`b`\x1b[0m c\n"),
        ("**b** 2 ** 3 ** 4", "\x1b[1m**b**\x1b[0m 2 ** 3 ** 4\n"),
        ("f(*args, **kwargs)", "f(*args, **kwargs)\n"),
        ("``a ` b``", "\x1b[36m``a\x1b[0m \x1b[36m`\x1b[0m \x1b[36mb``\x1b[0m\n"),
        ("`left open\nnext`", "`left open\nnext`\n"),
        ("", ""),
        ("\n\n", "\n\n"),
        ("   ", ""),
    ],
)
def test_styles(text, expected):
    assert shown([text]) == expected
    assert shown([*text]) == expected


def test_a_fence_is_a_dim_rule_and_code_goes_out_as_it_comes():
    stream = MarkdownStream(lambda: 20, color=True)
    assert stream.push("```py") == ""
    assert stream.push("\n").startswith("\x1b[2m── py ─")
    long = "x = 1 + 1 + 1 + 1 + 1 + 1"
    assert stream.push(long[:9]) + stream.push(long[9:]) == long
    assert stream.push("\n``") == "\n"
    assert stream.push("`").strip("\x1b[2m─0\n") == ""
    assert "─" in stream.finish()


def test_an_opened_mark_does_not_hold_the_answer_for_long():
    stream = MarkdownStream(lambda: 200, color=True)
    assert stream.push("now `a b c") == "now"
    assert stream.push(" word" * 20).startswith(" `a b c word")


def test_items_hang_under_their_text():
    assert shown(["- " + "aaaa " * 8], color=False, columns=20) == "- aaaa aaaa aaaa\n  aaaa aaaa aaaa\n  aaaa aaaa\n"
