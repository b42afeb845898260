"""Token shards: whole documents, a width that fits the vocabulary, over one shard or many."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ownlm.corpus import shards
from ownlm.corpus.document import read_documents
from ownlm.corpus.shards import TokenDocuments, TokenSet, _SplitWriter, write_tokens
from ownlm.errors import OwnlmError
from ownlm.tokenizer import Tokenizer
from tiny_models import make_corpus


def test_documents_come_back_as_they_were(workshop: Path) -> None:
    tokenizer, tokens = Tokenizer.load(workshop / "tokenizer"), TokenSet.open(workshop / "tokens")
    assert tokens.splits == ["validation-text", "train"]
    for split, name in (("train", "train"), ("validation", "validation-text")):
        documents = tokens.documents(name)
        texts = [document.text for document in read_documents(workshop / "corpus", split=split)]
        assert len(documents) == len(texts)
        for index, text in enumerate(texts):
            *ids, end = documents.document(index).tolist()
            assert end == tokenizer.end_of_text_id and tokenizer.decode(ids) == text
        figures = tokens.card.figures[name]
        assert figures["documents"] == len(texts)
        assert figures["tokens"] == int(documents.starts[-1])
        assert figures["bytes"] == sum(len(text.encode()) for text in texts)


def test_several_shards_read_as_one(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "TOKENS_A_SHARD", 150)
    write_tokens(workshop / "corpus", workshop / "tokenizer", tmp_path / "many")
    one, many = (TokenSet.open(folder).documents("train") for folder in (workshop / "tokens", tmp_path / "many"))
    assert len(many.shards) > 3 and all(len(shard) <= 150 for shard in many.shards)
    assert [many.document(i).tolist() for i in range(len(many))] == [one.document(i).tolist() for i in range(len(one))]


@pytest.mark.parametrize(
    ("vocab", "dtype"), [(400, np.uint16), (65_472, np.uint16), (65_536, np.uint16), (65_600, np.uint32)]
)
def test_ids_never_wrap_round(tmp_path: Path, vocab: int, dtype: type) -> None:
    tokenizer = SimpleNamespace(end_of_text_id=vocab - 1, padded_vocab_size=vocab)
    writer = _SplitWriter(tmp_path, "train", tokenizer)  # type: ignore[arg-type]
    writer.add(np.array([0, vocab - 2], dtype=np.uint32), 2)
    assert writer.finish() == {"tokens": 3, "documents": 1, "bytes": 2}
    stored = np.load(tmp_path / "train-00000.npy")
    assert stored.dtype == dtype and stored.astype(np.int64).tolist() == [0, vocab - 2, vocab - 1]


def test_the_same_corpus_gives_the_same_bytes(workshop: Path, tmp_path: Path) -> None:
    write_tokens(workshop / "corpus", workshop / "tokenizer", tmp_path / "again")
    assert TokenSet.open(tmp_path / "again").card.content == TokenSet.open(workshop / "tokens").card.content


def test_a_corpus_without_training_text_is_refused(workshop: Path, tmp_path: Path) -> None:
    make_corpus(tmp_path / "corpus", documents=3)
    with pytest.raises(OwnlmError, match="no training documents"):
        write_tokens(tmp_path / "corpus", workshop / "tokenizer", tmp_path / "tokens")
    assert not (tmp_path / "tokens").exists()


def test_in_memory() -> None:
    documents = TokenDocuments.of([[1, 2], [3], [4, 5, 6]])
    assert [documents.document(index).tolist() for index in range(3)] == [[1, 2], [3], [4, 5, 6]]
    assert documents.read(4, 5).tolist() == [5]
