"""Markdown styled while it streams, append-only.

In:  safe text in pieces, cut anywhere.
Out: what can be written now: wrapped at words, headings bold, `code` cyan, a code fence as a dim rule.

Nothing that was written is ever painted again, so a style must be known before its text goes out:

    line start   held until its mark is known ("#", "-", "1.", "```"); then the line has a kind
    `code` **b** held until the closing mark, the line's end or 80 characters; unclosed marks stay as they are
    fenced code  goes out as it comes, unwrapped, so that it can be copied

The marks themselves stay in sight: what a reader copies is what the model wrote, and no meaning is carried
by colour alone. Without colour only the wrapping remains.
"""

import re
from collections.abc import Callable

from ownlm.cli.screen_text import BOLD, CYAN, DIM, styled
from ownlm.cli.wrap import WordWrap

_LONGEST_SPAN = 80
_RULE_LENGTH = 40

# A line that so far consists of this alone may still become a heading, a list item, a quotation or a fence.
_UNDECIDED = re.compile(r" *(#{1,6}|[-*+]|\d{1,9}[.)]?|>|`{1,2}|~{1,2})?")
_FENCE = re.compile(r" {0,3}(?P<mark>`{3,}|~{3,}) *(?P<language>[^`]*)")
_HEADING = re.compile(r" {0,3}#{1,6} ")
_ITEM = re.compile(r" *([-*+]|\d{1,9}[.)]|>) +")
_INLINE_MARK = re.compile(r"`+|\*+")


class MarkdownStream:
    def __init__(self, columns: Callable[[], int | None], *, color: bool) -> None:
        self._wrap = WordWrap(columns)
        self._color = color
        self._held = ""
        self._kind = ""  # of the line that is being written: "", "text", "heading", "code"
        self._fence = ""  # the mark that will close the code block

    def push(self, text: str) -> str:
        self._held += text
        return self._work(final=False)

    def finish(self) -> str:
        return self._work(final=True) + self._wrap.finish()

    def _work(self, *, final: bool) -> str:
        out = []
        while self._held:
            line, newline, _ = self._held.partition("\n")
            ended = final or bool(newline)
            if not self._kind:
                if not ended and self._is_undecided(line):
                    break
                if self._is_fence(line):
                    out.append(self._write_fence(line, newline))
                    continue
                self._kind = self._kind_of(line)
            if line:
                written, taken = self._write(line, ended=ended)
                out.append(written)
                self._held = self._held[taken:]
                if taken < len(line):
                    break
            if newline:
                out.append(self._wrap.raw("\n") if self._kind == "code" else self._wrap.push("\n"))
                self._held = self._held[1:]
                self._kind = ""
                self._wrap.hang = 0
        return "".join(out)

    def _is_undecided(self, line: str) -> bool:
        begin = line.lstrip(" ")
        if self._fence:
            return not begin or self._fence.startswith(begin) or begin.startswith(self._fence)
        return bool(_UNDECIDED.fullmatch(line)) or begin.startswith(("```", "~~~"))

    def _is_fence(self, line: str) -> bool:
        match = _FENCE.fullmatch(line)
        if not match:
            return False
        return not self._fence or (match["mark"].startswith(self._fence) and not match["language"].strip())

    def _write_fence(self, line: str, newline: str) -> str:
        match = _FENCE.fullmatch(line)
        assert match
        self._fence = "" if self._fence else match["mark"]
        self._held = self._held[len(line) + len(newline) :]
        if self._color:
            label = f"── {match['language'].strip()} " if match["language"].strip() else ""
            line = styled(label.ljust(_RULE_LENGTH, "─"), DIM)
        # Escapes have no width, but the column is counted from the newline on.
        return self._wrap.raw(line + "\n")

    def _kind_of(self, line: str) -> str:
        if self._fence:
            return "code"
        item = _ITEM.match(line)
        self._wrap.hang = item.end() if item else len(line) - len(line.lstrip(" "))
        return "heading" if _HEADING.match(line) else "text"

    def _write(self, line: str, *, ended: bool) -> tuple[str, int]:
        """What of the line can go out, and how many of its characters that takes."""
        if self._kind == "code":
            return self._wrap.raw(line), len(line)
        if self._kind == "heading":
            return self._wrap.push(line, BOLD if self._color else ""), len(line)
        if not self._color:
            return self._wrap.push(line), len(line)
        return self._write_inline(line, ended=ended)

    def _write_inline(self, line: str, *, ended: bool) -> tuple[str, int]:
        out, start = [], 0
        for_certain = len(line)
        while match := _INLINE_MARK.search(line, start):
            out.append(self._wrap.push(line[start : match.start()]))
            start = match.start()
            mark = match.group()
            if match.end() == len(line) and not ended:  # the mark may grow
                for_certain = start
                break
            end = _closing(line, match)
            if end is None and not ended and _may_open(line, match) and len(line) - start <= _LONGEST_SPAN:
                for_certain = start
                break
            style = "" if end is None else CYAN if mark[0] == "`" else BOLD
            end = match.end() if end is None else end
            out.append(self._wrap.push(line[start:end], style))
            start = end
        out.append(self._wrap.push(line[start:for_certain]))
        return "".join(out), for_certain


def _may_open(line: str, match: re.Match[str]) -> bool:
    """Backticks always; two asterisks before a word, but not those of `2 ** 3`."""
    if match.group()[0] == "`":
        return True
    return len(match.group()) == 2 and not line[match.end() : match.end() + 1].isspace()


def _closing(line: str, match: re.Match[str]) -> int | None:
    """Where the span that this mark opens ends (its closing mark taken in), or None."""
    if not _may_open(line, match):
        return None
    mark, position = match.group(), match.end()
    while (later := _INLINE_MARK.search(line, position)) is not None:
        if later.group() == mark and (mark[0] == "`" or not line[later.start() - 1].isspace()):
            return later.end()
        position = later.end()
    return None
