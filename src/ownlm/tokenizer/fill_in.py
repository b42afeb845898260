"""Filling in the middle: what a code model wants to see around a gap, so that it writes what belongs there.

    files, prefix, suffix ──▶ [REPO name] [FILE path text]... [FILE] PREFIX prefix SUFFIX suffix MIDDLE ──▶ the gap

A model can do it where its tokenizer has the three marks and its training had them too. Ours have the marks alone, for
they are trained on text from left to right; they are left out here.
Sources: Bavarian et al. 2022 (arXiv 2207.14255); llama.cpp's src/llama-vocab.cpp, for what other makers call the marks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ownlm.tokenizer.gguf_special import FILE_NAMES
from ownlm.tokenizer.tokenizer import Tokenizer

_PREFIX = ("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>", "<|code_prefix|>")
_SUFFIX = ("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>", "<|code_suffix|>")
_MIDDLE = ("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>", "<|code_middle|>")


@dataclass(frozen=True, kw_only=True)
class FillMarks:
    """Ids. `repository` and `file` stand before other files, where a model has them; any of `ends` ends the gap."""

    prefix: int
    suffix: int
    middle: int
    repository: int | None
    file: int | None
    ends: tuple[int, ...]


def fill_marks(tokenizer: Tokenizer) -> FillMarks | None:
    """None: the model cannot fill in."""
    if tokenizer.own:
        return None
    special = tokenizer.special

    def first(names: Sequence[str]) -> int | None:
        return next((special[name] for name in names if name in special), None)

    prefix, suffix, middle = first(_PREFIX), first(_SUFFIX), first(_MIDDLE)
    if prefix is None or suffix is None or middle is None:
        return None
    padding, repository, file = map(first, FILE_NAMES)
    ends = tuple(id for id in (padding, repository, file) if id is not None)
    return FillMarks(prefix=prefix, suffix=suffix, middle=middle, repository=repository, file=file, ends=ends)


def fill_prompt(
    tokenizer: Tokenizer,
    marks: FillMarks,
    prefix: str,
    suffix: str,
    *,
    files: Sequence[tuple[str, str]] = (),
    room: int | None = None,
) -> list[int]:
    """`files`: (name, text) of what else may help to know. `room`: ids that there may be at most; the files go first,
    from the first one on, then what is farthest from the gap, three quarters of the rest staying before it.
    """
    before, after = tokenizer.encode(prefix), tokenizer.encode(suffix)
    told = [_file(tokenizer, marks, name, text) for name, text in files]
    first = [*tokenizer.prefix_ids]
    if room is not None:
        room -= len(first) + 3
        if len(before) + len(after) > room:
            kept = min(len(before), max(room * 3 // 4, room - len(after)))
            before, after = before[len(before) - kept :], after[: max(0, room - kept)]
        room -= len(before) + len(after)
        while told and len(_project(tokenizer, marks, told)) > room:
            told.pop(0)
    project = _project(tokenizer, marks, told)
    return [*first, *project, marks.prefix, *before, marks.suffix, *after, marks.middle]


def _project(tokenizer: Tokenizer, marks: FillMarks, told: Sequence[list[int]]) -> list[int]:
    """The other files; the one with the gap, whose name nobody says, begins as they do."""
    if not told:
        return []
    head = [] if marks.repository is None else [marks.repository, *tokenizer.encode("project\n")]
    own = [] if marks.file is None else [marks.file, *tokenizer.encode("filename\n")]
    return [*head, *(id for one in told for id in one), *own]


def _file(tokenizer: Tokenizer, marks: FillMarks, name: str, text: str) -> list[int]:
    written = tokenizer.encode(f"{name}\n{text}\n")
    return written if marks.file is None else [marks.file, *written]
