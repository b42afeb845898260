"""Losses and log-likelihoods: independent of the batch, and equal to plain loops."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from ownlm.engine import log_likelihoods
from ownlm.engine.perplexity import text_loss, windows
from ownlm.engine.score import token_log_likelihoods
from ownlm.model import Decoder
from ownlm.model.rope_scaling import RopeScaling
from ownlm.train.pretrain import token_sizes
from tiny_models import random_decoder, random_documents, random_ids, tiny_tokenizer


@pytest.fixture(scope="module")
def model() -> Decoder:
    return random_decoder(seed=2).eval()


SIZES = token_sizes(tiny_tokenizer())
DOCUMENTS = [random_ids(length, seed=length) for length in (9, 2, 31, 17, 5, 1)]
LONGROPE = RopeScaling(
    rope_type="longrope",
    factor=4.0,
    original_max_position_embeddings=12,
    short_factor=(1.0,) * 8,
    long_factor=(3.0,) * 8,
)
LONG = [random_ids(length, seed=length) for length in (200, 33, 34, 64, 5)]


def arrays(documents: list[list[int]]) -> list[np.ndarray]:
    return [np.array(document) for document in documents]


@torch.inference_mode()
def plain(model: Decoder, documents: list[list[int]]) -> tuple[float, int, int]:
    """One document after another, whole."""
    nats, tokens, size = 0.0, 0, 0
    for ids in documents:
        chances = model(torch.tensor([ids]))[0].double().log_softmax(-1)
        nats -= sum(float(chances[place, id]) for place, id in enumerate(ids[1:]))
        tokens += len(ids) - 1
        size += sum(len(tiny_tokenizer().token_bytes(id)) for id in ids[1:])
    return nats, tokens, size


def test_documents_shorter_than_the_context_against_a_plain_loop(model: Decoder) -> None:
    loss = text_loss(model, arrays(DOCUMENTS), SIZES, context=32)
    nats, tokens, size = plain(model, DOCUMENTS)
    assert (loss.tokens, loss.bytes) == (tokens, size)
    assert loss.nats == pytest.approx(nats, rel=1e-5)
    assert loss.bits_per_byte == pytest.approx(nats / math.log(2) / size, rel=1e-5)


@pytest.mark.parametrize("context", [8, 32])
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_the_batch_changes_nothing(model: Decoder, batch: int, context: int) -> None:
    expected = text_loss(model, arrays(LONG), SIZES, context=context, batch=5)
    loss = text_loss(model, arrays(LONG), SIZES, context=context, batch=batch)
    assert (loss.tokens, loss.bytes) == (expected.tokens, expected.bytes)
    assert loss.nats == pytest.approx(expected.nats, rel=1e-6)


def test_slices_add_up(model: Decoder) -> None:
    whole = text_loss(model, arrays(LONG), SIZES, context=32)
    parts = [text_loss(model, arrays([document]), SIZES, context=32) for document in LONG]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    assert (total.tokens, total.bytes) == (whole.tokens, whole.bytes)
    assert total.nats == pytest.approx(whole.nats, rel=1e-6)


@pytest.mark.parametrize("context", [1, 2, 3, 8, 32])
@pytest.mark.parametrize("length", [1, 2, 8, 9, 10, 100])
def test_every_token_but_the_first_is_counted_once(context: int, length: int) -> None:
    counted: list[int] = []
    for window, fresh in windows([np.arange(length)], context):
        assert 1 < len(window) <= context + 1
        assert fresh == len(window) - 1 or len(window) - fresh >= context // 2
        counted += window[-fresh:].tolist()
    assert counted == list(range(1, length))


def test_a_model_that_guesses_has_the_bits_of_its_vocabulary() -> None:
    model = random_decoder(tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    loss = text_loss(model, arrays(LONG), SIZES, context=16)
    assert loss.loss == pytest.approx(math.log(model.config.vocab_size), rel=1e-5)
    expected = math.log2(model.config.vocab_size) * loss.tokens / loss.bytes
    assert loss.bits_per_byte == pytest.approx(expected, rel=1e-5)


def test_a_quick_look_reads_the_same_beginning(model: Decoder) -> None:
    first = text_loss(model, arrays(LONG), SIZES, context=16, most_tokens=40)
    assert first == text_loss(model, arrays(LONG), SIZES, context=16, most_tokens=40)
    assert 40 <= first.tokens < 40 + 16


def test_bytes_of_special_tokens_do_not_count() -> None:
    tokenizer = tiny_tokenizer()
    assert all(SIZES[id] == 0 for id in tokenizer.special.values())
    assert len(SIZES) == tokenizer.padded_vocab_size
    ids = tokenizer.encode("naïve 中文 text")
    assert sum(SIZES[id] for id in ids) == len("naïve 中文 text".encode())


@torch.inference_mode()
def test_log_likelihoods_against_a_plain_loop(model: Decoder) -> None:
    pairs = [(random_ids(n, seed=n), random_ids(m, seed=n * m)) for n, m in ((3, 4), (10, 1), (1, 9), (20, 20), (5, 5))]
    expected = []
    for context, text in pairs:
        chances = model(torch.tensor([context + text]))[0].double().log_softmax(-1)
        expected.append(sum(float(chances[len(context) + i - 1, id]) for i, id in enumerate(text)))
    for step_tokens in (1, 30, 512):
        assert log_likelihoods(model, pairs, step_tokens=step_tokens) == pytest.approx(expected, abs=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sliding_window": 6, "layer_types": ("sliding_attention", "full_attention")},
        {"attn_logit_softcapping": 5.0},
        {"rope_scaling": LONGROPE},
    ],
    ids=lambda changes: "_".join(changes) or "plain",
)
def test_what_shares_a_context_or_a_pass_changes_nothing(changes: dict[str, Any]) -> None:
    model = random_decoder(seed=3, **changes).eval()
    contexts = [random_ids(n, seed=n) for n in (3, 9, 1)]
    pairs = [(context, random_ids(m, seed=m)) for context in contexts for m in (1, 2, 4, 6, 7)]
    pairs += [(random_ids(8, seed=1), []), (contexts[0], random_ids(40, seed=1))]
    alone = [log_likelihoods(model, [pair])[0] for pair in pairs]
    for step_tokens in (1, 17, 40, 512):
        assert log_likelihoods(model, pairs, step_tokens=step_tokens) == pytest.approx(alone, abs=1e-5)
    limit = model.config.max_position_embeddings
    for (context, text), nats in zip(pairs, alone, strict=True):
        if text and len(context) + len(text) <= limit:
            chances = model(torch.tensor([(context + text)[:-1]]))[0].double().log_softmax(-1)
            expected = sum(float(chances[len(context) + place - 1, id]) for place, id in enumerate(text))
            assert nats == pytest.approx(expected, abs=1e-5)


def test_progress_counts_what_is_read_and_a_context_once(model: Decoder) -> None:
    read: list[tuple[int, int]] = []
    pairs = [([1, 2, 3], [4, 5]), ([1, 2, 3], [6]), ([7], [8])]
    token_log_likelihoods(model, pairs, step_tokens=5, progress=lambda *counts: read.append(counts))
    assert read == [(5, 5)]
    token_log_likelihoods(model, pairs[1:], step_tokens=3, progress=lambda *counts: read.append(counts))
    assert read[1:] == [(1, 4), (4, 4)]


def test_a_text_longer_than_the_context_keeps_its_end(model: Decoder) -> None:
    limit = model.config.max_position_embeddings
    text = random_ids(limit + 9, seed=4)
    (nats,) = token_log_likelihoods(model, [([1, 2], text)])
    assert nats == pytest.approx(
        token_log_likelihoods(model, [(text[-limit - 1 : -limit], text[-limit:])])[0], abs=1e-5
    )


@torch.inference_mode()
def test_a_pair_longer_than_the_context_loses_its_start(model: Decoder) -> None:
    limit = model.config.max_position_embeddings
    context, text = random_ids(limit + 20, seed=1), random_ids(10, seed=2)
    kept = context[-(limit + 1 - len(text)) :]
    assert log_likelihoods(model, [(context, text)]) == pytest.approx(log_likelihoods(model, [(kept, text)]), abs=1e-5)
    assert random_documents([3]).document(0).shape == (3,)
