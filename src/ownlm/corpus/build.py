"""Text in, a corpus folder out.

    Python ──▶ hold out files ──▶ drop duplicates ──┐
                                                    ├──▶ shuffle ──▶ documents.parquet, card.json
    folder, hub ──▶ drop duplicates ──▶ hold out ───┘

In:  a CorpusConfig. Out: an artefact of kind "corpus"; equal files and configuration give an equal content hash.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ownlm.artefact import write_artefact
from ownlm.corpus.config import CorpusConfig
from ownlm.corpus.dedup import drop_duplicates
from ownlm.corpus.document import DOCUMENTS_FILE, Document, read_documents, write_documents
from ownlm.corpus.folder_text import gather_folder
from ownlm.corpus.hub_text import PREFIX, gather_hub
from ownlm.corpus.python_material import gather_python
from ownlm.corpus.split import hold_out, shuffled
from ownlm.errors import OwnlmError

__all__ = ["CorpusConfig", "build_corpus", "read_documents"]

# A quarter more than asked for is gathered of the user's text: held-out documents come out of it.
_ROOM_FOR_VALIDATION = 1.25


def _silent(line: str) -> None:
    """No one asked to be told."""


def build_corpus(
    out: Path, config: CorpusConfig, *, report: Callable[[str], None] = _silent, force: bool = False
) -> Path:
    """Gather, hold out, deduplicate and write; `report` gets a line at each thing worth knowing."""
    if out.exists() and not force:
        raise OwnlmError(f"{out} exists already; name another --out, or add --force to move it aside")
    dropped: Counter[str] = Counter()
    if config.text is None:
        documents = gather_python(config, dropped, report)
        # Held-out documents come first, so that of two that are alike training loses its own.
        documents = drop_duplicates(documents, threshold=config.near_duplicate, dropped=dropped)
    else:
        documents = _gather_users(config.text, config, dropped, report)
    validation = [document for document in documents if document.split == "validation"]
    training = shuffled((document for document in documents if document.split == "train"), config.seed)
    if not validation or not training:
        raise OwnlmError(
            f"{config.text or 'the Python material'} has too little different text to hold some out; give it more"
        )
    with write_artefact(out, kind="corpus", how=config.as_card(), force=force) as draft:
        write_documents(draft.path / DOCUMENTS_FILE, [*validation, *training])
        draft.figures.update(corpus_figures(documents, dropped))
    report(_summary(documents))
    return out


def _gather_users(
    text: str, config: CorpusConfig, dropped: Counter[str], report: Callable[[str], None]
) -> list[Document]:
    most_bytes = int(config.max_megabytes * 1e6)
    gather_bytes = int(most_bytes * _ROOM_FOR_VALIDATION)
    if text.startswith(PREFIX):
        documents = gather_hub(text, most_bytes=gather_bytes, dropped=dropped, report=report)
    else:
        documents = gather_folder(Path(text), most_bytes=gather_bytes, seed=config.seed, dropped=dropped, report=report)
    # Before anything is held out: of a long document only the beginning is, which is like no whole copy of it.
    documents = drop_duplicates(documents, threshold=config.near_duplicate, dropped=dropped)
    training, held, left_out = hold_out(
        documents,
        share=config.validation_share,
        most_bytes=min(config.validation_kilobytes * 1000, most_bytes // 10),
        seed=config.seed,
    )
    if left_out:
        dropped["characters of held-out documents beyond their beginning"] += left_out
    return [*held, *_up_to(training, most_bytes, dropped)]


def _up_to(documents: list[Document], most_bytes: int, dropped: Counter[str]) -> list[Document]:
    """As many as fit, and at least one."""
    kept: list[Document] = []
    total = 0
    for document in documents:
        total += document.size
        if kept and total > most_bytes:
            total -= document.size
            dropped["over the size asked for"] += 1
            continue
        kept.append(document)
    return kept


def corpus_figures(documents: Iterable[Document], dropped: Counter[str]) -> dict[str, Any]:
    """What card.json says of the content: counts and megabytes by source, kind and split; what was left out and why."""
    mixture: dict[tuple[str, str, str, str, str], list[int]] = {}
    for document in documents:
        key = (document.split, document.slice, document.source, document.kind, document.licence)
        counts = mixture.setdefault(key, [0, 0])
        counts[0] += 1
        counts[1] += document.size
    rows = [
        {
            "split": split,
            "slice": slice,
            "source": source,
            "kind": kind,
            "licence": licence,
            "documents": count,
            "bytes": size,
        }
        for (split, slice, source, kind, licence), (count, size) in sorted(mixture.items())
    ]
    return {
        "documents": sum(count for count, _ in mixture.values()),
        "bytes": sum(size for _, size in mixture.values()),
        "training_bytes": sum(size for key, (_, size) in mixture.items() if key[0] == "train"),
        "validation_bytes": sum(size for key, (_, size) in mixture.items() if key[0] == "validation"),
        "mixture": rows,
        "left_out": dict(sorted((reason, count) for reason, count in dropped.items() if count)),
    }


def _summary(documents: list[Document]) -> str:
    training = sum(document.size for document in documents if document.split == "train")
    validation = sum(document.size for document in documents if document.split == "validation")
    return f"{len(documents):,} documents: {training / 1e6:.1f} MB to learn from, {validation / 1e3:.0f} kB held out"
