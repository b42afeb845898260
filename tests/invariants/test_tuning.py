"""Fine-tuning's silent bugs: an adapter that gets no gradient, a loss that depends on how it is computed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ownlm.artefact import read_events
from ownlm.model import Decoder
from ownlm.model.feed_forward import ACTIVATIONS, _Gated
from ownlm.model.load import build_decoder
from ownlm.model.lora import LoraAdapter, adapted
from ownlm.model.lora_pair import LoraConfig
from ownlm.train import Stopped, finetune
from ownlm.train.batch import Batch
from ownlm.train.loss import head_loss, token_loss
from ownlm.train.pack import next_token_batch
from ownlm.train.plan import seconds_a_step
from ownlm.train.step import Learner
from tiny_checkpoints import MODEL_TYPES, tiny_checkpoint
from tiny_journey import lora_recipe, tune_config
from tiny_models import ADAMW, random_decoder, random_ids


def batch_of(rows: int = 3, length: int = 24, *, vocab: int | None = None) -> Batch:
    """Packed documents, and every third token no target."""
    tokens = torch.tensor([random_ids(length + 1, seed=row, vocab=vocab) for row in range(rows)]).numpy()
    numbers = torch.arange(length + 1).div(9, rounding_mode="floor").expand(rows, -1).numpy()
    batch = next_token_batch(tokens, numbers)
    batch.targets_BT[:, ::3] = -100
    return batch


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_every_matrix_of_a_new_adapter_has_moved_after_a_step(kind: str, recompute: bool) -> None:
    model = build_decoder(tiny_checkpoint(kind)).pack()
    model.recompute = recompute
    adapter = LoraAdapter.new(model, LoraConfig(rank=2, alpha=4))
    before = [pair.a_rE.detach().clone() for pair in adapter.each()]
    learner = Learner.of(model, ADAMW, trained=adapter, compact=True)
    batch = batch_of(vocab=model.config.vocab_size)
    # In the first step B is zero, so A has no gradient yet.
    learner.step(batch)
    assert all(bool((pair.b_Or != 0).any()) for pair in adapter.each())
    learner.step(batch)
    assert all(not torch.equal(pair.a_rE, old) for pair, old in zip(adapter.each(), before, strict=True))


def test_the_base_stands_still() -> None:
    model = random_decoder().pack()
    before = {name: value.clone() for name, value in model.named_parameters()}
    learner = Learner.of(model, ADAMW, trained=LoraAdapter.new(model, LoraConfig(rank=2, alpha=4)))
    learner.step(batch_of())
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def gradients(model: Decoder, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("cap", [None, 5.0])
def test_the_loss_by_pieces_is_the_loss_at_once(tied: bool, cap: float | None) -> None:
    model = random_decoder(dtype=torch.float64, tie_word_embeddings=tied, final_logit_softcapping=cap)
    batch = batch_of()
    plain = token_loss(model, batch, compact=False)
    expected = gradients(model, plain.total)
    wanted = batch.targets_BT != -100
    hidden = model.hidden(batch.tokens_BT, batch.positions_BT, batch.documents_BT)[wanted]
    pieces = head_loss(model, hidden, batch.targets_BT[wanted], rows=7)
    torch.testing.assert_close(pieces, plain.total, rtol=1e-12, atol=0)
    found = gradients(model, 3 * pieces)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, 3 * expected[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_gate_that_keeps_less_has_the_same_bits(name: str) -> None:
    gate, up, d_out = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    found = []
    for thrifty in (False, True):
        given = [gate.clone().requires_grad_(), up.clone().requires_grad_()]
        out = _Gated.apply(ACTIVATIONS[name], *given) if thrifty else ACTIVATIONS[name](given[0]) * given[1]
        found.append((out.detach(), *torch.autograd.grad(out, given, d_out)))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_recomputing_changes_no_bit() -> None:
    losses, found = [], []
    for recompute in (False, True):
        model = random_decoder()
        model.recompute = recompute
        loss = token_loss(model, batch_of(), compact=True)
        losses.append(loss.total.detach())
        found.append(gradients(model, loss.total))
    assert torch.equal(*losses)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_micro_batches_do_not_change_an_adapters_step() -> None:
    results = []
    for micro_rows in (1, 3):
        model = random_decoder(dtype=torch.float64).pack()
        adapter = LoraAdapter.new(model, LoraConfig(rank=2, alpha=4)).double()
        learner = Learner.of(model, ADAMW, trained=adapter, micro_rows=micro_rows, compact=True)
        result = learner.step(batch_of())
        results.append((result.loss, result.grad_norm, [pair.b_Or.detach() for pair in adapter.each()]))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)


def test_measuring_changes_nothing() -> None:
    model = random_decoder()
    before = {name: value.clone() for name, value in model.named_parameters()}

    class Rows:
        def batch(self, first_row: int, rows: int) -> Batch:
            return batch_of(rows)

    assert seconds_a_step(tune_config(), model, Rows(), "float32", compact_loss=True, compiled=False) > 0
    assert all(torch.equal(value, before[name]) and value.grad is None for name, value in model.named_parameters())


def test_a_stopped_adapter_run_ends_in_the_same_bits(workshop: Path, tmp_path: Path) -> None:
    whole = lora_recipe(workshop, tmp_path / "whole", train=tune_config(steps=6, rows=2))
    finetune(whole)
    cut = replace(whole, out=str(tmp_path / "cut"))

    def stop(event: dict[str, object]) -> None:
        if event["event"] == "step" and event["step"] == 3:
            (tmp_path / "cut" / "control").write_text("stop")

    with pytest.raises(Stopped):
        finetune(cut, on_event=stop)
    finetune(cut)
    steps = [
        [event["loss"] for event in read_events(tmp_path / name / "events.jsonl") if event["event"] == "step"]
        for name in ("whole", "cut")
    ]
    assert steps[0] == steps[1] and len(steps[0]) == 6
    weights = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_an_adapter_beside_another_stays_when_that_one_goes() -> None:
    model = random_decoder().pack()
    one, other = (LoraAdapter.new(model, LoraConfig(rank=2, alpha=4), seed=seed) for seed in (1, 2))
    with torch.no_grad():
        for pair in (*one.each(), *other.each()):
            pair.b_Or.normal_(generator=torch.Generator().manual_seed(0))
        tokens = torch.tensor([random_ids(9)])
        with adapted(model, [(slice(None), one)]):
            alone = model(tokens)
            with adapted(model, [(slice(None), other)]):
                assert not torch.allclose(model(tokens), alone)
            assert torch.equal(model(tokens), alone)
