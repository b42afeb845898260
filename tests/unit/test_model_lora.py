"""LoRA: folders as PEFT writes them, merged or beside the weights, a different one for each span of a row."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from ownlm.errors import OwnlmError
from ownlm.model import Decoder
from ownlm.model.load import build_decoder
from ownlm.model.lora import LoraAdapter, adapted, attach
from ownlm.model.lora_folder import CONFIG, WEIGHTS
from ownlm.model.lora_pair import LoraConfig
from ownlm.train.loss import head_loss
from tiny_checkpoints import MODEL_TYPES, tiny_checkpoint
from tiny_models import random_decoder, random_ids

MODULES = {
    "gpt2": ("c_attn", "c_fc"),
    "gpt_neox": ("query_key_value", "dense_4h_to_h"),
    "phi3": ("qkv_proj", "gate_up_proj"),
    "qwen3_moe": ("q_proj", "v_proj", "o_proj"),
}
PLAIN = ("q_proj", "v_proj", "o_proj", "up_proj", "down_proj")
IDS = torch.arange(12).unsqueeze(0)
FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def random_adapter(decoder: Decoder, *, seed: int, modules: tuple[str, ...] = PLAIN, **config: Any) -> LoraAdapter:
    adapter = LoraAdapter.new(decoder, LoraConfig(**{"rank": 4, "alpha": 8.0} | config), modules=modules, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for pair in adapter.each():
            pair.b_Or.copy_(torch.randn(pair.b_Or.shape, generator=generator) * 0.05)
            if pair.magnitude_O is not None:
                pair.magnitude_O.mul_(1 + torch.randn(pair.magnitude_O.shape, generator=generator) * 0.2)
    return adapter


@torch.no_grad()
def with_merged(decoder: Decoder, adapter: LoraAdapter) -> torch.Tensor:
    copied = deepcopy(decoder)
    adapter.merge(copied)
    return copied(IDS)


@pytest.mark.parametrize(("packed", "dora"), [(True, False), (False, False), (True, True), (False, True)])
@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_beside_the_weights_is_merged_into_them(kind: str, packed: bool, dora: bool) -> None:
    decoder = build_decoder(tiny_checkpoint(kind), dtype=torch.float64)
    decoder = decoder.pack() if packed else decoder
    adapter = random_adapter(decoder, seed=1, modules=MODULES.get(kind, PLAIN), dora=dora).double()
    with torch.no_grad():
        before = decoder(IDS)
        with adapted(decoder, [(slice(None), adapter)]):
            beside = decoder(IDS)
        assert torch.equal(decoder(IDS), before)
    assert not torch.allclose(beside, before, rtol=1e-3)
    torch.testing.assert_close(beside, with_merged(decoder, adapter), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("rank_stabilised", [True, False])
def test_a_merged_weight_is_the_papers_formula(rank_stabilised: bool) -> None:
    decoder = random_decoder()
    adapter = random_adapter(decoder, seed=1, rank_stabilised=rank_stabilised)
    before = decoder.model.layers[1].mlp.up_proj.weight.detach().clone()
    adapter.merge(decoder)
    (pair,) = [pair for pair in adapter.each() if pair.module == "model.layers.1.mlp.up_proj"]
    expected = before + (8 / 4**0.5 if rank_stabilised else 8 / 4) * pair.b_Or @ pair.a_rE
    torch.testing.assert_close(decoder.model.layers[1].mlp.up_proj.weight, expected)


def test_with_dora_a_merged_row_is_as_long_as_was_learned() -> None:
    """Equation 5 of the paper: m * (W + B A) / ||W + B A||."""
    decoder = random_decoder()
    adapter = random_adapter(decoder, seed=1, dora=True)
    before = decoder.model.layers[1].mlp.up_proj.weight.detach().clone()
    adapter.merge(decoder)
    (pair,) = [pair for pair in adapter.each() if pair.module == "model.layers.1.mlp.up_proj"]
    assert pair.magnitude_O is not None
    pointing = F.normalize(before + 8 / 4 * pair.b_Or @ pair.a_rE)
    expected = pair.magnitude_O.unsqueeze(1) * pointing
    torch.testing.assert_close(decoder.model.layers[1].mlp.up_proj.weight, expected)


@pytest.mark.parametrize("dora", [False, True])
def test_a_new_adapter_changes_nothing_and_can_be_trained(dora: bool) -> None:
    decoder = random_decoder().pack()
    adapter = LoraAdapter.new(decoder, LoraConfig(rank=2, alpha=4, dora=dora), modules=["q_proj", "down_proj"])
    before = decoder(IDS)
    with adapted(decoder, [(slice(None), adapter)]):
        after = decoder(IDS)
    torch.testing.assert_close(before, after)
    after.sum().backward()
    assert all(pair.b_Or.grad is not None and pair.b_Or.grad.abs().sum() > 0 for pair in adapter.each())
    learned = [pair.magnitude_O.grad for pair in adapter.each() if pair.magnitude_O is not None]
    assert len(learned) == (len(adapter.each()) if dora else 0)
    assert all(grad is not None and grad.abs().sum() > 0 for grad in learned)


@torch.no_grad()
@pytest.mark.parametrize("dora", [False, True])
def test_each_request_of_a_flat_row_has_its_own(dora: bool) -> None:
    """Three requests in one row, as documents: each equals the model with its adapter merged, alone."""
    decoder = random_decoder().eval().pack()
    one, other = (random_adapter(decoder, seed=seed, dora=dora) for seed in (1, 2))
    requests = [random_ids(count, seed=count) for count in (5, 3, 6)]
    row = torch.tensor([[id for ids in requests for id in ids]])
    documents = torch.tensor([[0] * 5 + [1] * 3 + [2] * 6])
    positions = torch.tensor([[*range(5), *range(3), *range(6)]])
    spans = [(slice(0, 5), one), (torch.arange(8, 14), other)]
    with adapted(decoder, spans):
        together = decoder(row, positions, documents)[0].split([5, 3, 6])
    for ids, adapter, got in zip(requests, (one, None, other), together, strict=True):
        alone = deepcopy(decoder)
        if adapter is not None:
            adapter.merge(alone)
        torch.testing.assert_close(got, alone(torch.tensor([ids]))[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox", "phi3"])
def test_a_folder_holds_all_of_it(tmp_path: Path, kind: str, dora: bool) -> None:
    decoder = build_decoder(tiny_checkpoint(kind))
    adapter = random_adapter(decoder, seed=3, modules=MODULES.get(kind, PLAIN), rank_stabilised=True, dora=dora)
    assert adapter.save(tmp_path) == [CONFIG, WEIGHTS]
    again = LoraAdapter.load(tmp_path, decoder)
    assert again.config == adapter.config
    assert torch.equal(with_merged(decoder, again), with_merged(decoder, adapter))
    fields = json.loads((tmp_path / CONFIG).read_text())
    assert fields["fan_in_fan_out"] is (kind == "gpt2")
    assert set(fields["target_modules"]) == set(MODULES.get(kind, PLAIN))


def test_names_are_pefts(tmp_path: Path) -> None:
    """As PEFT 0.17 names what it saves of a Llama and of a GPT-2, whose c_attn it keeps as [rank, in], [out, rank]."""
    random_adapter(random_decoder(), seed=1).save(tmp_path)
    assert FIRST in load_file(tmp_path / WEIGHTS)
    random_adapter(build_decoder(tiny_checkpoint("gpt2")), seed=1, modules=("c_attn",)).save(tmp_path)
    stem = "base_model.model.transformer.h.0.attn.c_attn"
    tensors = load_file(tmp_path / WEIGHTS)
    assert tensors[f"{stem}.lora_A.weight"].shape == (4, 64) and tensors[f"{stem}.lora_B.weight"].shape == (192, 4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"peft_type": "IA3"}, "only LORA"),
        ({"r": 0}, "r must be a whole number from 1"),
        ({"r": 8}, r"has shape \[4, 32\], and this model needs \[8, 32\]"),
        ({"lora_alpha": float("nan")}, "which is no finite number"),
        ({"use_rslora": "yes"}, "use_rslora must be true or false"),
        ({"use_dora": True}, "lora_magnitude_vector is missing"),
        ({"use_qalora": True}, "use_qalora is True, which ownlm does not compute"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"a_field_of_next_year": 1}, "a_field_of_next_year"),
        ({"trainable_token_indices": [1, 1]}, "no list of tokens' ids"),
        ({"trainable_token_indices": [99999]}, "it holds a row for token 99999, and the model has"),
        ({"trainable_token_indices": {"embed_tokens": [1], "lm_head": [2]}}, "other tokens for the head"),
        ({"trainable_token_indices": [1]}, "trainable_tokens_delta is missing"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"init_lora_weights": "pissa"}, "changes the base model too"),
    ],
)
def test_what_is_not_computed_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    decoder = random_decoder()
    random_adapter(decoder, seed=1).save(tmp_path)
    path = tmp_path / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(OwnlmError, match=words):
        LoraAdapter.load(tmp_path, decoder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({FIRST: None}, "lora_A.weight is missing"),
        ({FIRST: torch.zeros(4, 31)}, r"has shape \[4, 31\]"),
        ({FIRST: torch.full((4, 32), torch.nan)}, "not finite"),
        ({FIRST: torch.zeros(4, 32, dtype=torch.int8)}, "stored as I8"),
        ({"base_model.model.lm_head.lora_A.weight": torch.zeros(4, 32)}, "lm_head.lora_A.weight is for nothing"),
        ({FIRST.replace("layers.0", "layers.7"): torch.zeros(4, 32)}, "layers.7.*is for nothing"),
    ],
)
def test_hostile_tensors_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    decoder = random_decoder()
    random_adapter(decoder, seed=1).save(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS) | change
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, tmp_path / WEIGHTS)
    with pytest.raises(OwnlmError, match=words):
        LoraAdapter.load(tmp_path, decoder)


def test_dora_stands_on_weights_alone(tmp_path: Path) -> None:
    decoder = random_decoder().pack()
    random_adapter(decoder, seed=1, dora=True).save(tmp_path)
    with adapted(decoder, [(slice(0, 3), random_adapter(decoder, seed=2))]):
        LoraAdapter.load(tmp_path, decoder)
    attach(decoder, random_adapter(decoder, seed=2))
    with pytest.raises(OwnlmError, match="the model is an adapter itself; merge that first"):
        LoraAdapter.load(tmp_path, decoder)


def test_a_look_between_two_steps_sees_what_was_learned() -> None:
    """Norms that are kept for answers are never those of earlier steps."""
    decoder = random_decoder().pack()
    adapter = random_adapter(decoder, seed=1, dora=True)
    for _ in range(2):
        with adapted(decoder, [(slice(None), adapter)]):
            decoder(IDS).sum().backward()
        with torch.no_grad():
            for pair in adapter.each():
                pair.a_rE.mul_(1.5)
            with adapted(decoder, [(slice(None), adapter)]):
                torch.testing.assert_close(decoder(IDS), with_merged(decoder, adapter), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_rows_of_their_own_stand_beside_and_are_merged(tmp_path: Path, tied: bool) -> None:
    decoder = random_decoder(tie_word_embeddings=tied).double().pack()
    adapter = LoraAdapter.new(decoder, LoraConfig(rank=2, alpha=4), modules=["q_proj"], tokens=[3, 7]).double()
    assert adapter.rows is not None and (adapter.rows.head_NE is None) is tied
    targets = torch.arange(1, 13)
    found = []
    for rows in (4, 100):
        with adapted(decoder, [(slice(None), adapter)]):
            head_loss(decoder, decoder.hidden(IDS)[0], targets, rows=rows).backward()
        found.append([parameter.grad for parameter in adapter.parameters()])
        adapter.zero_grad()
    for in_parts, at_once in zip(*found, strict=True):
        torch.testing.assert_close(in_parts, at_once)
    with torch.no_grad():
        for parameter in adapter.rows.parameters():
            parameter.add_(torch.randn_like(parameter))
        with adapted(decoder, [(slice(None), adapter)]):
            beside = decoder(IDS)
        assert not torch.allclose(beside, decoder(IDS))
        torch.testing.assert_close(beside, with_merged(decoder, adapter))
    adapter.save(tmp_path)
    again = LoraAdapter.load(tmp_path, decoder).double()
    torch.testing.assert_close(with_merged(decoder, again), beside, rtol=1e-5, atol=1e-5)
    with pytest.raises(OwnlmError, match="open the adapter's folder as the model"):
        again.check(decoder)


def test_folders_that_are_no_adapters_and_adapters_of_other_models(tmp_path: Path) -> None:
    decoder = random_decoder()
    with pytest.raises(OwnlmError, match=r"holds no adapter_config\.json"):
        LoraAdapter.load(tmp_path, decoder)
    (tmp_path / CONFIG).write_text("{}")
    with pytest.raises(OwnlmError, match="pickled weights are never opened"):
        LoraAdapter.load(tmp_path, decoder)
    with pytest.raises(OwnlmError, match="no layer of this model is named c_attn; it has down_proj"):
        LoraAdapter.new(decoder, LoraConfig(rank=1, alpha=1), modules=["c_attn"])
