"""`ownlm ask`: an answer from one's own documents, or the passages nearest to a question."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from ownlm.apps import Reply, Source


def ask(
    folder: Path,
    question: str,
    *,
    model: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """What the documents in FOLDER say, in their own words, with file and page. Without --model it is a search.

    Example: ownlm ask my_documents "When is the rent due?" --model smollm2

    Parameters
    ----------
    folder
        A folder of documents (PDF, DOCX, EPUB, HTML, Markdown, text, .jsonl), or one.
    question
        In the words that the documents may use.
    model
        Judges which sentences answer: a model folder, a run's folder, a .gguf file, a starter (smollm2), hub:ORG/NAME.
    json
        One JSON object: the answer, its quotations, the nearest passages, what could not be read.
    """
    from ownlm.apps import ask as answer
    from ownlm.cli.open_model import open_model

    reply = answer(folder, question, open_model(model) if model else None, report=_note)
    if json:
        from dataclasses import asdict
        from json import dumps

        sys.stdout.write(dumps(asdict(reply), ensure_ascii=False) + "\n")
        return 0
    for line in reply.left_out:
        _note(line)
    _show(reply)
    return 0


def _show(reply: "Reply") -> None:
    from ownlm.cli.screen_text import safe_text
    from ownlm.cli.terminal import terminal_columns
    from ownlm.cli.wrap import wrap_text

    width = terminal_columns(sys.stdout)

    def write(text: str) -> None:
        sys.stdout.write(wrap_text(safe_text(text), width) + "\n")

    for quotation in reply.quotations:
        write(f'"{quotation.text}"\n    {_place(quotation)}\n')
    if reply.quotations:
        return
    if reply.answer:
        write(reply.answer)
        if reply.nearest:
            write("\nThe nearest passages:\n")
    for source in reply.nearest:
        write(f"{_place(source)}\n{source.text}\n")


def _place(source: "Source") -> str:
    from ownlm.cli.screen_text import safe_line

    return safe_line(f"{source.file}, {source.place}" if source.place else source.file)


def _note(line: str) -> None:
    from ownlm.cli.screen_text import safe_line

    sys.stderr.write(safe_line(line) + "\n")
