"""How a batch is cut or packed changes nothing: loss, gradients and weights, in float64."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ownlm.model import Decoder
from ownlm.train.batch import IGNORE, Batch
from ownlm.train.conversations import ConversationRows, Example
from ownlm.train.loss import token_loss
from ownlm.train.optim import OptimizerConfig, Optimizers
from ownlm.train.pack import DocumentRows, next_token_batch
from ownlm.train.step import Learner, accumulate, make_objective
from tiny_models import ADAMW, random_decoder, random_documents, random_ids, token_loss_of

VOCAB, CONTEXT = 64, 24
LENGTHS = [3, 40, 11, 7, 2, 30, 5, 9, 21, 16, 8, 60]


def decoder(seed: int = 0) -> Decoder:
    return random_decoder(seed=seed, dtype=torch.float64, vocab_size=VOCAB)


def batch_of(rows: int, first: int = 0) -> Batch:
    return DocumentRows(random_documents(LENGTHS, vocab=VOCAB), context=CONTEXT, seed=0).batch(first, rows)


def gradients(model: Decoder) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], tolerance: float = 1e-10) -> None:
    assert ours.keys() == theirs.keys() and ours
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("micro_rows", [1, 3, 5])
def test_micro_batches_add_up_to_the_batch(micro_rows: int, compact: bool) -> None:
    """3 and 5 do not divide 8: the last, smaller micro-batch counts too."""
    model, batch = decoder(), batch_of(8)
    objective = make_objective(compact=compact, compiled=False)
    whole = accumulate(model, batch, objective, micro_rows=0, precision="float32")
    expected = gradients(model)
    model.zero_grad()
    parts = accumulate(model, batch, objective, micro_rows=micro_rows, precision="float32")
    assert parts[1] == whole[1] == int((batch.targets_BT != IGNORE).sum())
    assert parts[0] == pytest.approx(whole[0], rel=1e-10)
    assert_same(gradients(model), expected)


def test_padding_at_the_end_of_rows_changes_nothing() -> None:
    model, batch = decoder(), batch_of(3)
    objective = make_objective(compact=True, compiled=False)
    expected = accumulate(model, batch, objective, micro_rows=0, precision="float32")
    sums = gradients(model)
    model.zero_grad()
    fill = {"tokens_BT": 0, "targets_BT": IGNORE, "positions_BT": 0, "documents_BT": -1}
    padded = Batch(**{name: F.pad(tensor, (0, 9), value=fill[name]) for name, tensor in vars(batch).items()})
    assert padded.trimmed().tokens_BT.shape == batch.tokens_BT.shape
    assert accumulate(model, padded, objective, micro_rows=0, precision="float32") == expected
    assert_same(gradients(model), sums)


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_no_row_is_dropped_by_splitting(rows: int) -> None:
    batch = batch_of(7)
    parts = batch.split(rows)
    assert [part.rows for part in parts] == [min(rows, 7 - start) for start in range(0, 7, rows)]
    assert torch.equal(torch.cat([part.tokens_BT for part in parts]), batch.tokens_BT)


def test_micro_batches_of_unequal_numbers_of_targets_give_the_same_step() -> None:
    """The mean of the micro-batches' means would differ: one row here has a tenth of another's targets."""
    model, batch = decoder(), batch_of(8)
    batch.targets_BT[0, 2:] = IGNORE
    twin = copy.deepcopy(model)
    results = []
    for each, micro_rows in ((model, 0), (twin, 1)):
        learner = Learner.of(each, ADAMW, micro_rows=micro_rows)
        for step in range(5):
            result = learner.step(batch if step == 0 else batch_of(8, first=8 * step))
            assert result.updated
        results.append(result)
    assert results[0].loss == pytest.approx(results[1].loss, rel=1e-9)
    assert results[0].grad_norm == pytest.approx(results[1].grad_norm, rel=1e-9)
    assert_same(dict(model.named_parameters()), dict(twin.named_parameters()), 1e-9)


def alone(model: Decoder, documents: Sequence[Sequence[int]]) -> tuple[float, int]:
    """Loss and gradients of each document in a row of its own, with no mask and no positions given."""
    total, count = 0.0, 0
    for ids in documents:
        row = torch.tensor([ids])
        logits = model(row[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), row[0, 1:], reduction="sum")
        loss.backward()
        total, count = total + float(loss.detach()), count + len(ids) - 1
    return total, count


def packed(documents: Sequence[Sequence[int]], *, padding: int = 0) -> Batch:
    tokens = np.array([[id for ids in documents for id in ids] + [0] * padding])
    numbers = np.array([[n for n, ids in enumerate(documents) for _ in ids] + [-1] * padding])
    return next_token_batch(tokens, numbers)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("lengths", [[5, 2, 12, 3, 9], [40, 33, 50]], ids=["by a mask", "one by one"])
def test_packed_documents_are_as_each_alone(lengths: list[int], compact: bool, padding: int) -> None:
    documents = [random_ids(length, seed=n, vocab=VOCAB) for n, length in enumerate(lengths)]
    model = decoder()
    total, count = alone(model, documents)
    expected = gradients(model)
    model.zero_grad()
    loss = token_loss(model, packed(documents, padding=padding), compact=compact)
    loss.total.backward()
    assert int(loss.count) == count
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-10)
    assert_same(gradients(model), expected)


def test_packed_logits_are_those_of_each_document_alone() -> None:
    documents = [random_ids(length, seed=n, vocab=VOCAB) for n, length in enumerate([5, 2, 12, 3, 9])]
    model, batch = decoder(), packed(documents)
    logits = model(batch.tokens_BT, batch.positions_BT, batch.documents_BT)[0]
    start = 0
    for ids in documents:
        own = model(torch.tensor([ids]))[0][: len(logits) - start]
        torch.testing.assert_close(logits[start : start + len(ids)], own, rtol=1e-10, atol=1e-10)
        start += len(ids)


def test_a_change_in_one_document_leaves_the_others_alone() -> None:
    documents = [random_ids(length, seed=n, vocab=VOCAB) for n, length in enumerate([6, 7, 8])]
    changed = [documents[0], [(id + 1) % VOCAB for id in documents[1]], documents[2]]
    model = decoder()
    before, after = (
        model(b.tokens_BT, b.positions_BT, b.documents_BT)[0] for b in (packed(documents), packed(changed))
    )
    assert torch.equal(before[:6], after[:6]) and torch.equal(before[13:], after[13:])
    assert not torch.equal(before[6:13], after[6:13])


def test_positions_restart_with_each_document() -> None:
    batch = packed([[1, 2, 3], [4, 5], [6, 7, 8, 9]], padding=2)
    assert batch.positions_BT.tolist() == [[0, 1, 2, 0, 1, 0, 1, 2, 3, 0]]
    assert batch.targets_BT.tolist() == [[2, 3, IGNORE, 5, IGNORE, 7, 8, 9, IGNORE, IGNORE]]


def test_packed_training_steps_reach_the_weights_of_unpacked_ones() -> None:
    model = decoder()
    twin = copy.deepcopy(model)
    ours = Learner.of(model, replace(ADAMW, clip=0.5))
    theirs = Optimizers(twin, ADAMW, muon_dtype=torch.float32)
    for step in range(4):
        documents = [random_ids(n, seed=10 * step + n, vocab=VOCAB) for n in (4, 11, 7)]
        ours.step(packed(documents))
        _, count = alone(twin, documents)
        for parameter in twin.parameters():
            assert parameter.grad is not None
            parameter.grad /= count
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        theirs.step()
        theirs.zero_grad()
    assert_same(dict(model.named_parameters()), dict(twin.named_parameters()), 1e-9)


def test_packed_conversations_are_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    examples = [
        Example(ids=rng.integers(0, VOCAB, length), trained=rng.random(length) < 0.5) for length in (5, 9, 4, 12, 7, 3)
    ]
    model = decoder()

    def loss(members: list[Example], rows: int, context: int) -> tuple[float, int]:
        packed_rows = ConversationRows(members, context=context, seed=0)
        result = token_loss(model, packed_rows.batch(0, rows), compact=True)
        return float(result.total.detach()), int(result.count)

    row_count = 0
    rows = ConversationRows(examples, context=20, seed=0)
    seen: list[int] = []
    while len(seen) < len(examples):
        seen += rows._members(row_count)
        row_count += 1
    assert sorted(seen) == list(range(len(examples)))
    total, count = loss(examples, row_count, 20)
    each = [loss([example], 1, len(example.ids) - 1) for example in examples]
    assert count == sum(n for _, n in each) == sum(int(example.trained[1:].sum()) for example in examples)
    assert total == pytest.approx(sum(value for value, _ in each), rel=1e-10)


@pytest.mark.parametrize("compact", [False, True])
def test_a_fully_masked_micro_batch_adds_nothing(compact: bool) -> None:
    model, batch = decoder(), batch_of(2)
    expected_loss = token_loss(model, batch, compact=compact)
    expected_loss.total.backward()
    expected = gradients(model)
    masked = batch_of(2, first=2)
    masked.targets_BT.fill_(IGNORE)
    result = token_loss(model, masked, compact=compact)
    assert (float(result.total.detach()), int(result.count)) == (0.0, 0)
    result.total.backward()
    assert_same(gradients(model), expected)


@pytest.mark.parametrize("compact", [False, True])
def test_a_batch_without_targets_is_no_step(compact: bool) -> None:
    model, batch = decoder(), batch_of(2)
    batch.targets_BT.fill_(IGNORE)
    before = copy.deepcopy(model.state_dict())
    result = Learner.of(model, OptimizerConfig(), micro_rows=1, compact=compact).step(batch)
    assert not result.updated and result.targets == 0 and result.loss == 0
    assert_same(model.state_dict(), before, 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_step_that_is_not_finite_changes_no_weight_and_no_momentum(value: float) -> None:
    model, batch = decoder(), batch_of(2)
    learner = Learner.of(model, OptimizerConfig())
    learner.step(batch)
    before, momentum = copy.deepcopy(model.state_dict()), copy.deepcopy(learner.optimizers.state_dict())

    def poisoned(model: Decoder, batch: Batch) -> object:
        loss = token_loss_of(model, batch)
        return type(loss)(loss.total * value, loss.count)

    result = replace(learner, objective=poisoned).step(batch)
    assert not result.updated
    assert_same(model.state_dict(), before, 0)
    assert str(learner.optimizers.state_dict()) == str(momentum)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert learner.step(batch).updated
