"""From documents to token shards: what training reads.

In:  a corpus folder and a tokenizer. Out: an artefact of kind "tokens":

    train-00000.npy ...          ids, one after another, each document ended by <|endoftext|>
    train.documents.npy          where each document starts, and one past the end of the last
    validation-prose-00000.npy   the same for every held-out slice

NumPy's own format, mapped into memory: a corpus larger than the memory trains as well. The ids' width
follows from the vocabulary, so that id 65,536 cannot wrap round to 0.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from ownlm.artefact import Card, verify_artefact, write_artefact
from ownlm.corpus.document import read_documents
from ownlm.errors import OwnlmError
from ownlm.tokenizer import Tokenizer

TOKENS_A_SHARD = 2**26
# Enough for fast encoding, and little enough for the memory.
_DOCUMENTS_AT_ONCE = 256


def write_tokens(corpus: Path, tokenizer_folder: Path, out: Path, *, force: bool = False) -> Path:
    """Tokenize every split of `corpus` into `out`."""
    tokenizer = Tokenizer.load(tokenizer_folder)
    inputs = {
        "corpus": verify_artefact(corpus, "corpus").content,
        "tokenizer": verify_artefact(tokenizer_folder, "tokenizer").content,
    }
    how = {"vocab_size": tokenizer.vocab_size, "tokenizer_kind": tokenizer.kind}
    with write_artefact(out, "tokens", how=how, inputs=inputs, force=force) as draft:
        writers: dict[str, _SplitWriter] = {}
        stream = read_documents(corpus)
        while documents := list(islice(stream, _DOCUMENTS_AT_ONCE)):
            ids = tokenizer.encode_batch([document.text for document in documents])
            for document, document_ids in zip(documents, ids, strict=True):
                name = "-".join(filter(None, (document.split, document.slice)))
                if name not in writers:
                    writers[name] = _SplitWriter(draft.path, name, tokenizer)
                writers[name].add(document_ids, document.size)
        for name, writer in writers.items():
            draft.figures[name] = writer.finish()
        if "train" not in writers:
            raise OwnlmError(f"{corpus} has no training documents; add text, or hold out a smaller share")
    return out


def bytes_per_token(figures: dict[str, dict[str, int]]) -> float:
    """Of a tokens artefact's figures: how far the tokenizer shortened the training text."""
    train = figures["train"]
    return round(train["bytes"] / train["tokens"], 3)


class _SplitWriter:
    """Gathers documents into shards; a document is never cut over two."""

    def __init__(self, folder: Path, name: str, tokenizer: Tokenizer) -> None:
        self.folder, self.name = folder, name
        self.end = tokenizer.end_of_text_id
        self.dtype = np.uint16 if tokenizer.padded_vocab_size <= 2**16 else np.uint32
        self.pieces: list[np.ndarray] = []
        self.held, self.shards, self.bytes = 0, 0, 0
        self.starts = [0]

    def add(self, ids: np.ndarray, size: int) -> None:
        if self.held and self.held + len(ids) + 1 > TOKENS_A_SHARD:
            self._flush()
        self.pieces.append(np.append(ids, self.end).astype(self.dtype))
        self.held += len(ids) + 1
        self.starts.append(self.starts[-1] + len(ids) + 1)
        self.bytes += size

    def finish(self) -> dict[str, int]:
        self._flush()
        np.save(self.folder / f"{self.name}.documents.npy", np.array(self.starts, dtype=np.int64))
        return {"tokens": self.starts[-1], "documents": len(self.starts) - 1, "bytes": self.bytes}

    def _flush(self) -> None:
        if self.pieces:
            np.save(self.folder / f"{self.name}-{self.shards:05d}.npy", np.concatenate(self.pieces))
        self.pieces, self.held, self.shards = [], 0, self.shards + 1


@dataclass(frozen=True, kw_only=True)
class TokenDocuments:
    """The documents of one split: `starts` [n + 1] counts tokens over all shards, which are mapped."""

    shards: tuple[np.ndarray, ...]
    starts: np.ndarray
    shard_starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens `start` to `stop`, int64, which lie in one document."""
        shard = int(np.searchsorted(self.shard_starts, start, side="right")) - 1
        first = int(self.shard_starts[shard])
        return np.asarray(self.shards[shard][start - first : stop - first], dtype=np.int64)

    def document(self, index: int) -> np.ndarray:
        return self.read(int(self.starts[index]), int(self.starts[index + 1]))

    @classmethod
    def of(cls, documents: Iterable[Iterable[int]]) -> "TokenDocuments":
        """Documents in memory: conversations, and tests."""
        arrays = [np.asarray(list(document), dtype=np.int64) for document in documents]
        starts = np.cumsum([0, *map(len, arrays)])
        return cls(shards=(np.concatenate(arrays),), starts=starts, shard_starts=np.array([0]))


@dataclass(frozen=True, kw_only=True)
class TokenSet:
    """An opened and verified artefact of kind "tokens"."""

    folder: Path
    card: Card

    @classmethod
    def open(cls, folder: Path) -> "TokenSet":
        return cls(folder=folder, card=verify_artefact(folder, "tokens"))

    @property
    def splits(self) -> list[str]:
        """ "train" and the held-out ones, such as "validation-prose"."""
        return [name for name, figures in self.card.figures.items() if isinstance(figures, dict)]

    def documents(self, split: str) -> TokenDocuments:
        paths = sorted(self.folder.glob(f"{split}-[0-9][0-9][0-9][0-9][0-9].npy"))
        shards = tuple(np.load(path, mmap_mode="r") for path in paths)
        shard_starts = np.cumsum([0, *(len(shard) for shard in shards)])[:-1]
        starts = np.load(self.folder / f"{split}.documents.npy")
        return TokenDocuments(shards=shards, starts=starts, shard_starts=shard_starts)

    def check_tokenizer(self, tokenizer_folder: Path) -> None:
        """Refuse a tokenizer other than the one that made these tokens: the ids would mean something else."""
        if verify_artefact(tokenizer_folder, "tokenizer").content != self.card.inputs["tokenizer"]:
            raise OwnlmError(
                f"{self.folder} was made with another tokenizer than {tokenizer_folder}; tokenize the corpus again"
            )
