"""`ownlm corpus`: documents, tokens and conversations."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Force = Annotated[bool, Parameter(negative="")]


def build(
    *,
    out: Path,
    text: str | None = None,
    max_megabytes: float = 16.0,
    seed: int = 0,
    force: Force = False,
) -> int:
    """Gather text into a corpus folder. Example: ownlm corpus build --text my_texts --out runs/mine/corpus

    Parameters
    ----------
    out
        The folder to write.
    text
        A folder of documents (PDF, DOCX, EPUB, HTML, Markdown, text, .jsonl), or hub:NAME. Else: the Python that is
        installed.
    max_megabytes
        Training text of yours to take at most: whole documents, chosen by the seed.
    seed
        Decides which documents are taken.
    force
        Move an existing folder aside.
    """
    from ownlm.corpus import CorpusConfig, build_corpus

    config = CorpusConfig(text=text, max_megabytes=max_megabytes, seed=seed)
    build_corpus(out, config, report=_say, force=force)
    _say(f"the corpus lies in {out}")
    return 0


def show(corpus: Path, *, json: Annotated[bool, Parameter(negative="")] = False) -> int:
    """What a corpus holds. Example: ownlm corpus show runs/quickstart/corpus

    Parameters
    ----------
    corpus
        A corpus's folder, or a run's.
    json
        The tables as one JSON object.
    """
    from ownlm.cli.parts import corpus_folder
    from ownlm.corpus import show_corpus

    tables = show_corpus(corpus_folder(corpus))
    if json:
        from json import dumps

        _say(dumps(tables, ensure_ascii=False))
        return 0
    from rich.console import Console
    from rich.table import Table

    from ownlm.cli.screen_text import safe_text

    # Into a file or pipe nothing is cut.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    for name, rows in tables.items():
        if not rows:
            continue
        table = Table(title=name, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for column in rows[0]:
            table.add_column(column.replace("_", " "), justify="right" if isinstance(rows[0][column], int) else "left")
        for row in rows:
            table.add_row(*(f"{v:,}" if isinstance(v, int) else safe_text(str(v)) for v in row.values()))
        console.print(table)
        console.print()
    return 0


def tokenize(corpus: Path, tokenizer: Path, *, out: Path, force: Force = False) -> int:
    """Turn a corpus into token shards. Example: ownlm corpus tokenize CORPUS TOKENIZER --out runs/mine/tokens

    Parameters
    ----------
    corpus
        A corpus's folder, or a run's.
    tokenizer
        A tokenizer's folder, or a run's.
    out
        The folder to write.
    force
        Move an existing folder aside.
    """
    from ownlm.artefact import read_card
    from ownlm.cli.parts import corpus_folder, tokenizer_folder
    from ownlm.corpus.shards import write_tokens

    write_tokens(corpus_folder(corpus), tokenizer_folder(tokenizer), out, force=force)
    for name, figures in read_card(out).figures.items():
        if isinstance(figures, dict):
            _say(f"{name}: {figures['documents']:,} documents, {figures['tokens']:,} tokens")
    return 0


def conversations(
    *,
    out: Path,
    corpus: Path | None = None,
    chat: Path | None = None,
    from_text: Annotated[bool, Parameter(negative="")] = False,
    from_documents: Annotated[bool, Parameter(negative="")] = False,
    strict: Annotated[bool, Parameter(negative="")] = False,
    group: str | None = None,
    seed: int = 0,
    force: Force = False,
) -> int:
    """Make conversations to tune on. Example: ownlm corpus conversations --corpus CORPUS --out runs/mine/conversations

    Parameters
    ----------
    out
        The folder to write.
    corpus
        A corpus's folder, or a run's, whose held-out docstrings become an exam.
    chat
        Your own conversations or documents, a file or a folder: these alone are used. docs/finetuning.md has the
        forms.
    from_text
        Make them from the corpus's texts instead of from Python.
    from_documents
        For a model that talks already: the corpus's texts as they are, and questions whose answers stand in them.
    strict
        With --chat: refuse at the first bad line.
    group
        With --chat: a field of its lines, such as a source; lines with the same value are held out together.
    seed
        Decides every random choice.
    force
        Move an existing folder aside.
    """
    from ownlm.artefact import read_card
    from ownlm.cli.parts import corpus_folder
    from ownlm.corpus.conversations import ConversationsConfig, build_conversations, told

    corpus = corpus_folder(corpus) if corpus else None
    config = ConversationsConfig(
        corpus=corpus,
        chat=chat,
        from_text=from_text,
        from_documents=from_documents,
        strict=strict,
        group=group,
        seed=seed,
    )
    build_conversations(out, config, force=force)
    if chat is not None:
        for line in told(read_card(out).figures):
            _say(line)
    _say(f"the conversations lie in {out}")
    return 0


def parallel(location: Path, *, into: str, out: Path, language: str | None = None) -> int:
    """Parallel text into lines to tune on. Example: ownlm corpus parallel locale/de --into German --out german.jsonl

    Parameters
    ----------
    location
        A .po, .tmx or .tsv file, or a folder of them.
    into
        The language that is translated into, as the prompts are to name it.
    out
        The file to write, a JSON line a pair.
    language
        The code of that language, such as de, where a .tmx file holds more than two.
    """
    from ownlm.corpus.parallel import write_parallel

    counts = write_parallel(location, out, into=into, language=language)
    left = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common() if reason != "kept")
    _say(f"{counts['kept']:,} pairs lie in {out}" + (f" (left out: {left})" if left else ""))
    return 0


def _say(line: str) -> None:
    from ownlm.cli.screen_text import safe_text

    sys.stdout.write(safe_text(line) + "\n")
