"""What a user writes as a task, and the Task that it stands for.

mine.jsonl               by the form of its lines: choices, answers or text
notes.txt, FOLDER        text; of a corpus's folder what is held out, of a conversations' its held-out answers, or texts
hellaswag=FILE ...       a known set, in the form in which it is published
translation=FILE         answers, measured by chrF and BLEU
group-swap               pairs of our own
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ownlm.artefact import file_sha256, read_card, read_errors, verify_artefact
from ownlm.artefact.card import CARD_NAME
from ownlm.errors import OwnlmError
from ownlm.evaluation.forms import CHOICE_SETS, Fields, choice_of, headline, question_of, swap_of
from ownlm.evaluation.lines import read_lines
from ownlm.evaluation.subject import cut
from ownlm.evaluation.tasks.answers import Answers
from ownlm.evaluation.tasks.choices import Choices
from ownlm.evaluation.tasks.group_swap import SWAPS, GroupSwap
from ownlm.evaluation.tasks.sarcasm import headline_choices
from ownlm.evaluation.tasks.task import Task
from ownlm.evaluation.tasks.text import HeldOutText, Text
from ownlm.evaluation.tasks.translation import Translation

GROUP_SWAP, SARCASM = "group-swap", "sarcasm"
NAMES = ("choices", "answers", "text", "translation", *CHOICE_SETS, SARCASM, GROUP_SWAP)
FORMS = (
    'give {"question": "...", "choices": [...], "answer": 0}, {"prompt": "...", "answer": "..."} '
    'or {"text": "..."} on every line'
)
_LINES = (".jsonl", ".jsonl.gz")
_PROSE = (".txt", ".md")
_HELD_OUT = "validation.jsonl"

Item = TypeVar("Item")


def read_task(written: str | Path, *, limit: int | None = None, max_tokens: int | None = None) -> Task:
    """`limit`: items to take, the first of the file; of text, pieces of about a thousand bytes.

    `max_tokens`: the longest that a written answer may be.
    """
    for setting, value in (("limit", limit), ("max_tokens", max_tokens)):
        if value is not None and value < 1:
            raise OwnlmError(f"{setting} must be at least 1, got {value}")
    name, path = _parted(written)
    if path is None:
        return GroupSwap(name=name, items=SWAPS[:limit])
    with read_errors(path):
        # "." and ".." have a name only where they lead to.
        task = _read(name, path if path.name not in ("", "..") else path.resolve(), limit)
    if not task.items:
        raise OwnlmError(f"{path} holds nothing to ask; {FORMS}")
    return replace(task, max_tokens=max_tokens) if isinstance(task, Answers) and max_tokens is not None else task


def _parted(written: str | Path) -> tuple[str, Path | None]:
    """Name ("" where it is to be found out) and file."""
    front, equals, rest = str(written).partition("=")
    if equals and front in NAMES and not Path(written).exists():
        name, path = front, Path(rest)
    elif str(written) == GROUP_SWAP:
        return GROUP_SWAP, None
    else:
        name, path = "", Path(written)
    if not path.exists() or (not rest and name):
        if str(written) in NAMES:
            raise OwnlmError(f"{written} is asked from a file; write {written}=FILE")
        raise OwnlmError(f"no such file: {path}; a task is a file, or one of {', '.join(NAMES)} as NAME=FILE")
    return name, path


def _read(name: str, path: Path, limit: int | None) -> Task:
    card = read_card(path) if (path / CARD_NAME).is_file() else None
    if card is not None:
        verify_artefact(path)
    if card is not None and card.kind == "conversations":
        return _of_conversations(name, path, limit)
    if path.is_dir() or not path.name.lower().endswith(_LINES):
        if name not in ("", "text"):
            raise OwnlmError(f"{path} does not end in {' or '.join(_LINES)}, and {name} is read from such a file")
        return _text_task(path, _texts(path, corpus=card is not None and card.kind == "corpus"), limit)
    data = {path.name: file_sha256(path)}
    kind = name or _kind_of(path)
    called = name if name in CHOICE_SETS or name == SARCASM else path.name
    if kind == "text":
        return _text_task(path, _texts(path), limit)
    if kind == SARCASM:
        headlines = list(_items(path, headline, None))
        return Choices(name=called, items=tuple(headline_choices(headlines, limit)), data=data)
    if kind == GROUP_SWAP:
        return GroupSwap(name=called, items=tuple(_items(path, swap_of, limit)), data=data)
    if kind in ("answers", "translation"):
        answers = Translation if kind == "translation" else Answers
        return answers(name=called, items=tuple(_items(path, question_of, limit)), data=data)
    read = CHOICE_SETS.get(kind, choice_of)
    return Choices(name=called, items=tuple(_items(path, read, limit)), data=data)


def _kind_of(path: Path) -> str:
    """By the first line."""
    for _, fields in read_lines(path):
        if "choices" in fields:
            return "choices"
        return "text" if "text" in fields else "answers"
    return "answers"


def _items(path: Path, read: Callable[[Fields], Item], limit: int | None) -> Iterator[Item]:
    for taken, (number, fields) in enumerate(read_lines(path)):
        if taken == limit:
            return
        try:
            yield read(fields)
        except ValueError as error:
            raise OwnlmError(f"{path}:{number}: {error}; put the line right or take it out") from None


def _of_conversations(name: str, folder: Path, limit: int | None) -> Task:
    """The last answer of each conversation that was held out; where there are none, the texts.

    Talks with tools are left out.
    """
    path = folder / _HELD_OUT
    rows = list(read_lines(path))
    talks = [(number, row) for number, row in rows if "messages" in row and not _has_tools(row)]
    if not talks and name != "translation":
        texts = ((path, Text(place=str(number), text=row["text"])) for number, row in rows if "text" in row)
        return _text_task(folder, texts, limit)
    items = []
    for number, row in talks[:limit]:
        try:
            items.append(question_of({"messages": row["messages"]}))
        except ValueError as error:
            raise OwnlmError(f"{path}:{number}: {error}; make the conversations anew") from None
    kind = Translation if name == "translation" else Answers
    return kind(name=folder.name, items=tuple(items), data={path.name: file_sha256(path)})


def _has_tools(row: Fields) -> bool:
    return bool(row.get("tools")) or any("tool_calls" in turn for turn in row["messages"])


def _text_task(path: Path, texts: Iterator[tuple[Path, Text]], limit: int | None) -> Task:
    data: dict[str, str] = {}
    items: list[Text] = []
    left = limit
    for file, item in texts:
        label = file.relative_to(path).as_posix() if path.is_dir() else file.name
        if label not in data:
            data[label] = file_sha256(file)
        if left is not None:
            pieces = [piece for _, piece in zip(range(left), cut(item.text), strict=False)]
            item, left = replace(item, text="".join(pieces)), left - len(pieces)
        if item.text:
            items.append(item)
        if left == 0:
            break
    return HeldOutText(name=path.name, items=tuple(items), data=data)


def _texts(path: Path, *, corpus: bool = False) -> Iterator[tuple[Path, Text]]:
    if corpus:
        yield from _held_out(path / "documents.parquet")
        return
    files: Sequence[Path] = [path]
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.name.lower().endswith((*_PROSE, *_LINES))]
        if not files:
            raise OwnlmError(f"{path} has no text; put {', '.join((*_PROSE, *_LINES))} files into it")
    for file in files:
        if file.name.lower().endswith(_LINES):
            yield from ((file, Text(place=place, text=text)) for place, text in _items(file, _document, None))
            continue
        try:
            yield file, Text(place=file.name, text=file.read_bytes().decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise OwnlmError(f"{file} is no UTF-8 text; save it as such, or take it out") from None


def _document(fields: Fields) -> tuple[str, str]:
    text = fields.get("text")
    if not isinstance(text, str):
        raise ValueError('it has no "text"')
    return str(fields.get("id", "")), text


def _held_out(path: Path) -> Iterator[tuple[Path, Text]]:
    # Lazily: of all tasks this one needs it alone.
    import pyarrow.parquet as pq

    table: Any = pq.read_table(path, columns=["text", "path", "split"])
    for row in table.to_pylist():
        if row["split"] == "validation":
            yield path, Text(place=row["path"], text=row["text"])
