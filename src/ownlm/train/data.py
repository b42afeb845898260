"""What a recipe names as its data, and the conversations' folder that training reads.

conversations: a folder that `ownlm corpus conversations` wrote ──▶ itself
conversations: a data file, or a folder of them                 ──▶ made into one in the run's folder
documents: a folder of texts, PDF, DOCX ...                     ──▶ a corpus there, and questions from it
"""

import shutil
from pathlib import Path

from ownlm.artefact import read_card, verify_artefact
from ownlm.artefact.card import CARD_NAME
from ownlm.corpus import CorpusConfig, build_corpus
from ownlm.corpus.conversations import ConversationsConfig, build_conversations
from ownlm.errors import OwnlmError


def conversations_of(
    run: Path,
    name: str,
    *,
    keep: bool,
    conversations: str | None = None,
    documents: str | None = None,
    group: str | None = None,
    seed: int = 0,
) -> Path:
    """The folder; what has to be made is made in `run`'s folder `name`, of `conversations` or of `documents`.

    `keep`: a run that has begun to train goes on with what was made for it. Before, it is made anew: the files or the
    recipe may be other ones by now.
    """
    path = Path(conversations or "")
    if conversations is not None and path.is_dir() and (path / CARD_NAME).is_file():
        return _made_already(path, group)
    built, corpus = run / name, run / "corpus"
    given = Path(conversations or documents or "").resolve()
    if any(given.is_relative_to(made.resolve()) for made in (built, corpus)):
        raise OwnlmError(f"{conversations or documents} is where the run makes its own data; keep yours elsewhere")
    if not (keep and (built / CARD_NAME).is_file()):
        shutil.rmtree(built, ignore_errors=True)
        if conversations is not None:
            config = ConversationsConfig(chat=path, group=group, seed=seed)
        else:
            assert documents is not None
            shutil.rmtree(corpus, ignore_errors=True)
            build_corpus(corpus, CorpusConfig(text=documents, seed=seed))
            config = ConversationsConfig(corpus=corpus, from_documents=True, seed=seed)
        build_conversations(built, config)
    verify_artefact(built, "conversations")
    return built


def _made_already(folder: Path, group: str | None) -> Path:
    verify_artefact(folder, "conversations")
    if group is not None and read_card(folder).how.get("group") != group:
        raise OwnlmError(
            f"group: what {folder} holds out was decided when it was made, without the group {group}; "
            f"make it anew with --group {group}, or leave group out (--set group=null)"
        )
    return folder
