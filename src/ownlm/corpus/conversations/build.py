"""Makes the conversations artefact: what the model is tuned on, and what it is examined with.

In:  ConversationsConfig. Out: a folder of kind "conversations":
     train.jsonl, validation.jsonl   {"messages": [...], "tools"?: [...]} or {"text": "..."} a line
     problems.jsonl                  with --chat: every line that was left out or mended, and why
     exam.jsonl                      {"id", "kind", "question", "answers", ...} a line; absent with --chat
     choose.jsonl                    docstring choice; only where the corpus holds described functions
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ownlm.artefact import Draft, read_card, write_artefact
from ownlm.corpus.conversations.check import all_text
from ownlm.corpus.conversations.config import ConversationsConfig
from ownlm.corpus.conversations.custom import Chat, read_chat
from ownlm.corpus.conversations.docstring_choice import choices_from_corpus
from ownlm.corpus.conversations.from_documents import lines_of_documents
from ownlm.corpus.conversations.from_text import TextHelper
from ownlm.corpus.conversations.hold_out import hold_out
from ownlm.corpus.conversations.problems import PROBLEMS_FILE
from ownlm.corpus.conversations.python_helper import PythonHelper
from ownlm.corpus.conversations.turns import Exchange, messages
from ownlm.corpus.document import read_documents
from ownlm.corpus.privacy import count_personal_data
from ownlm.errors import OwnlmError


def build_conversations(out: Path, config: ConversationsConfig, *, force: bool = False) -> Path:
    """Write the conversations of `config` to the new folder `out`."""
    inputs: dict[str, str] = {}
    if config.corpus is not None:
        inputs["corpus"] = read_card(config.corpus, kind="corpus").content
    chat = None
    if config.chat is not None:
        chat = read_chat(config.chat, strict=config.strict, group=config.group)
        inputs["chat"] = chat.content
    how = asdict(config)
    # A card travels; the folders of the machine that made it do not.
    how.update({name: path.name for name in ("corpus", "chat") if (path := getattr(config, name)) is not None})
    with write_artefact(out, "conversations", how=how, inputs=inputs, force=force) as draft:
        if chat is not None:
            _write_chat(draft, chat, config.seed)
        elif config.from_documents:
            _write_documents(draft, config)
        else:
            _write_made(draft, config)
        if config.corpus is not None and chat is None and not (config.from_text or config.from_documents):
            items = choices_from_corpus(config.corpus, config.exam.choose, config.seed)
            if items:
                write_lines(draft.path / "choose.jsonl", items)
            draft.figures["choose"] = len(items)
    return out


def _write_chat(draft: Draft, chat: Chat, seed: int) -> None:
    training, validation, alike = hold_out(chat.lines, chat.groups, seed)
    write_lines(draft.path / "train.jsonl", training)
    write_lines(draft.path / "validation.jsonl", validation)
    write_lines(draft.path / PROBLEMS_FILE, chat.problems.entries())
    draft.figures.update(
        conversations=len(training),
        validation=len(validation),
        documents=sum("text" in line for line in chat.lines),
        **alike,
        lines_read=chat.problems.lines,
        problems=chat.problems.figures(),
        personal_data=count_personal_data(zip(chat.places, map(all_text, chat.lines), strict=True)),
    )


def _write_documents(draft: Draft, config: ConversationsConfig) -> None:
    assert config.corpus is not None
    training, validation = lines_of_documents(read_documents(config.corpus), seed=config.seed)
    if not validation:
        raise OwnlmError(
            'the documents hold no sentences to ask for; tune on them as text, in .jsonl lines of {"text": "..."}'
        )
    write_lines(draft.path / "train.jsonl", training)
    write_lines(draft.path / "validation.jsonl", validation)
    draft.figures.update(
        conversations=len(training),
        validation=len(validation),
        documents=sum("text" in line for line in training),
        personal_data=count_personal_data((f"line {n}", all_text(line)) for n, line in enumerate(training, start=1)),
    )


def _write_made(draft: Draft, config: ConversationsConfig) -> None:
    helper: PythonHelper | TextHelper
    if config.from_text and config.corpus is not None:
        helper = TextHelper(config, [document.text for document in read_documents(config.corpus, split="train")])
    else:
        helper = PythonHelper(config)
        draft.figures["facts"] = len(helper.facts)
    # The order matters: each of the three keeps what it asks from those after it.
    exam, validation = helper.exam(), helper.validation()
    kinds: Counter[str] = Counter()
    write_lines(draft.path / "exam.jsonl", exam)
    write_lines(draft.path / "validation.jsonl", ({"messages": messages(held)} for held in validation))
    write_lines(draft.path / "train.jsonl", _counted(helper.training(), kinds))
    draft.figures.update(
        conversations=config.conversations,
        validation=len(validation),
        exam=dict(Counter(item["kind"] for item in exam)),
        exchanges=dict(sorted(kinds.items())),
    )


def _counted(conversations: Iterable[list[Exchange]], kinds: Counter[str]) -> Iterator[dict[str, Any]]:
    for exchanges in conversations:
        kinds.update(exchange.kind for exchange in exchanges)
        yield {"messages": messages(exchanges)}


def write_lines(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line, UTF-8."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for entry in entries:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
