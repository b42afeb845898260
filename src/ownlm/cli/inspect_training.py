"""`ownlm finetune RECIPE --inspect`: real rows on the screen, what is trained in green; no step is taken.

In:  a recipe. Out: the rows token by token, a legend, the figures; with --json the same for a program.

    in colour      trained green, read only dim, neighbouring tokens in two shades; special tokens in reverse, cyan
    without        trained in brackets, a dot between tokens
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

from ownlm.cli.screen_text import DIM, safe_text, styled

if TYPE_CHECKING:
    from ownlm.train import FinetuneRecipe
    from ownlm.train.inspect import Inspection, SeenRow, SeenToken

_OPEN, _CLOSE, _BETWEEN = "⟦", "⟧", "·"
# (trained, special): two styles, which neighbours take in turn.
_STYLES = {
    (True, False): ("32", "92"),
    (True, True): ("7;32", "7;92"),
    (False, False): (DIM, "39"),
    (False, True): ("36", "36;2"),
}


def inspect_training(recipe: "FinetuneRecipe", *, rows: int, json: bool) -> int:
    """Print what the run of `recipe` would train on first."""
    from ownlm.artefact import read_card
    from ownlm.cli.open_model import locate_model
    from ownlm.cli.terminal import is_tty, terminal_columns, use_color
    from ownlm.cli.wrap import wrap_text
    from ownlm.errors import OwnlmError
    from ownlm.opened import read_files
    from ownlm.train.conversations import read_conversations
    from ownlm.train.inspect import figure_lines, inspect_lines
    from ownlm.train.trainable import chat_template, with_wishes

    if rows < 1:
        raise OwnlmError(f"--rows must be at least 1, got {rows}")
    files = with_wishes(read_files(locate_model(recipe.model)), recipe)
    with tempfile.TemporaryDirectory() as temporary:
        # What the run would make of the user's own file is made here, and let go again.
        data = recipe.data(Path(temporary))
        card, known = read_card(data), recipe.replay_data(Path(temporary))
        if is_tty(sys.stderr):
            sys.stderr.write("reading every line as training does ...\n")
        seen = inspect_lines(
            read_conversations(data / "train.jsonl"),
            chat_template(files),
            files.tokenizer,
            context=recipe.train.context,
            seed=recipe.train.seed,
            rows=rows,
            replayed=read_conversations(known / "train.jsonl") if known is not None else (),
            replay_share=0.0 if known is None else recipe.replay_share,
        )
    if json:
        sys.stdout.write(dumps({**seen.as_json(), "conversations": card.figures}, ensure_ascii=False) + "\n")
        return 0
    color = use_color(sys.stdout, "auto", os.environ)
    for line in shown(seen, color=color):
        sys.stdout.write(line + "\n")
    for line in figure_lines(seen, card.figures.get("personal_data")):
        sys.stdout.write(wrap_text(safe_text(line), terminal_columns(sys.stdout)) + "\n")
    return 0


def shown(seen: "Inspection", *, color: bool) -> Iterator[str]:
    """The legend and the rows, as lines."""
    yield from _legend(color)
    for number, row in enumerate(seen.rows):
        yield ""
        yield from _row(number, row, seen.context, color)
    yield ""


def _legend(color: bool) -> Iterator[str]:
    if color:
        samples = {
            "trained": (True, False),
            "<trained, special>": (True, True),
            "read only": (False, False),
            "<read only, special>": (False, True),
        }
        yield "   ".join(styled(text, _STYLES[kind][0]) for text, kind in samples.items())
        yield "two shades part tokens   ⏎ line break"
    else:
        yield f"{_OPEN}trained{_CLOSE}   all else is read only   a dot {_BETWEEN} parts tokens   ⏎ line break"


def _row(number: int, row: "SeenRow", context: int, color: bool) -> Iterator[str]:
    trained = sum(token.trained for token in row.tokens)
    of = " of replay" if row.replay else ""
    title = f"== row {number}{of}: {len(row.tokens):,} tokens, {trained:,} trained, {row.padding:,} padding"
    yield styled(title, "1") if color else title
    begin = 0
    for place in range(1, len(row.tokens) + 1):
        if place == len(row.tokens) or row.tokens[place].document != row.tokens[begin].document:
            part = row.tokens[begin:place]
            border = f"-- example {part[0].document}: {len(part):,} tokens, positions from 0, sees no other"
            yield styled(border, DIM) if color else border
            yield from "".join(_pieces(part, color)).rstrip("\n").split("\n")
            begin = place


def _pieces(tokens: "list[SeenToken]", color: bool) -> Iterator[str]:
    before: SeenToken | None = None
    for number, token in enumerate(tokens):
        text = _visible(token.text)
        if color:
            style = _STYLES[token.trained, token.special][number % 2]
            # A style ends with its line: a wrapped or cut one would colour what follows.
            yield "\n".join(styled(line, style) for line in text.split("\n"))
        else:
            inside = before is not None and before.trained
            mark = _OPEN if token.trained and not inside else _CLOSE if inside and not token.trained else _BETWEEN
            starts_line = before is None or before.text.endswith("\n")
            yield ("" if mark == _BETWEEN and starts_line else mark) + text
        before = token
    if not color and before is not None and before.trained:
        yield _CLOSE


def _visible(text: str) -> str:
    """Line breaks seen and kept; nothing else moves the cursor."""
    return safe_text(text.replace("\r", "␍")).replace("\t", "→").replace("\n", "⏎\n")
