"""What a recipe names as its data, and the conversations' folder that training reads.

conversations: a folder that `ownlm corpus conversations` wrote ──▶ itself
conversations: a data file, or a folder of them                 ──▶ made into one in the run's folder
documents: a folder of texts, PDF, DOCX ...                     ──▶ a corpus there, and questions from it
"""

from pathlib import Path

from ownlm.artefact import verify_artefact
from ownlm.artefact.card import CARD_NAME
from ownlm.corpus import CorpusConfig, build_corpus
from ownlm.corpus.conversations import ConversationsConfig, build_conversations


def conversations_of(
    run: Path,
    name: str,
    *,
    conversations: str | None = None,
    documents: str | None = None,
    group: str | None = None,
    seed: int = 0,
) -> Path:
    """The folder; what has to be made is made once, in `run`'s folder `name`, of `conversations` or of `documents`."""
    path = Path(conversations or "")
    if conversations is not None and path.is_dir() and (path / CARD_NAME).is_file():
        verify_artefact(path, "conversations")
        return path
    built = run / name
    if not (built / CARD_NAME).is_file():
        if conversations is not None:
            config = ConversationsConfig(chat=path, group=group, seed=seed)
        else:
            assert documents is not None
            corpus = run / "corpus"
            if not (corpus / CARD_NAME).is_file():
                build_corpus(corpus, CorpusConfig(text=documents, seed=seed))
            config = ConversationsConfig(corpus=corpus, from_documents=True, seed=seed)
        build_conversations(built, config)
    verify_artefact(built, "conversations")
    return built
