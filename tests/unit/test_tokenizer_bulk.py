"""The fast routes: they stand down where they would give other ids."""

import numpy as np
import pytest

from ownlm.tokenizer import bulk, train_tokenizer
from ownlm.tokenizer.compression import SAMPLES


def test_an_engine_that_splits_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_tokenizer(SAMPLES.values(), vocab_size=400)
    right = [tokenizer.encode(text) for text in SAMPLES.values()]
    monkeypatch.setattr(bulk, "_FAST_PATTERN", r"\p{L}+|\P{L}+")
    assert [ids.tolist() for ids in tokenizer.encode_batch(list(SAMPLES.values()))] == right


def test_batches_are_cut_without_changing_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_BATCH_CHARACTERS", 10)
    tokenizer = train_tokenizer(["some words, some words"], kind="word", vocab_size=400)
    texts = ["some", "", "words and more words than ten characters", "x", "words"]
    assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == [tokenizer.encode(text) for text in texts]


def test_wide_ids_get_wide_arrays() -> None:
    assert bulk.smallest_dtype(65535) is np.uint16
    assert bulk.smallest_dtype(65536) is np.uint32
