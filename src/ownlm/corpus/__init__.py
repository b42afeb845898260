"""Text: gathered, held out, deduplicated; kept as documents with where they came from."""

from ownlm.corpus.build import build_corpus
from ownlm.corpus.config import CorpusConfig
from ownlm.corpus.document import Document, read_documents
from ownlm.corpus.show import corpus_reference_lines, show_corpus
from ownlm.corpus.verbatim import Match, TrainingText

__all__ = [
    "CorpusConfig",
    "Document",
    "Match",
    "TrainingText",
    "build_corpus",
    "corpus_reference_lines",
    "read_documents",
    "show_corpus",
]
