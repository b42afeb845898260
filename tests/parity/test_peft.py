"""(peers) LoRA adapters between PEFT and ownlm: what either writes the other opens, with the same logits."""

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ownlm.errors import OwnlmError
from ownlm.model.formats.huggingface import write_checkpoint
from ownlm.model.load import read_decoder
from ownlm.model.lora import LoraAdapter, adapted
from ownlm.model.lora_folder import WEIGHTS, table_names
from ownlm.model.lora_pair import LoraConfig
from tiny_checkpoints import tiny_checkpoint
from tiny_models import random_ids

pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="announced: peft is not installed"),
    # What the peers say of one another.
    pytest.mark.filterwarnings("ignore"),
]
KINDS = ["llama", "gpt2", "qwen3", "gemma3_text", "phi3", "gpt_neox"]
IDS = torch.tensor([random_ids(24, vocab=90)])


def theirs(folder: Path, adapter: Path) -> torch.Tensor:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    peer = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), adapter).double()
    with torch.inference_mode():
        logits: torch.Tensor = peer(IDS).logits
    return logits


def ours(folder: Path, adapter: Path | None) -> torch.Tensor:
    decoder = read_decoder(folder, dtype=torch.float64).pack()
    spans = [(slice(None), LoraAdapter.load(adapter, decoder).double())] if adapter else []
    with torch.inference_mode(), adapted(decoder, spans):
        logits: torch.Tensor = decoder(IDS)
    return logits


@pytest.mark.parametrize("flag", [None, "rank_stabilised", "dora"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_opens_what_we_write(tmp_path: Path, kind: str, flag: str | None) -> None:
    write_checkpoint(tmp_path, tiny_checkpoint(kind))
    decoder = read_decoder(tmp_path)
    adapter = LoraAdapter.new(decoder, LoraConfig(rank=4, alpha=8.0, **({flag: True} if flag else {})))
    with torch.no_grad():
        for pair in adapter.each():
            pair.b_Or.normal_(std=0.05)
            if pair.magnitude_O is not None:
                pair.magnitude_O.mul_(1 + 0.2 * torch.randn(pair.magnitude_O.shape))
    (tmp_path / "adapter").mkdir()
    adapter.save(tmp_path / "adapter", base=str(tmp_path))
    same(ours(tmp_path, tmp_path / "adapter"), theirs(tmp_path, tmp_path / "adapter"), ours(tmp_path, None))


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_we_open_what_it_writes_and_no_key_is_left_over(tmp_path: Path, kind: str, dora: bool) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    write_checkpoint(tmp_path, tiny_checkpoint(kind))
    wanted = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    wanted.use_dora = dora
    wanted.fan_in_fan_out = kind == "gpt2"
    peer = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path), wanted)
    peer.save_pretrained(tmp_path / "adapter")
    same(ours(tmp_path, tmp_path / "adapter"), theirs(tmp_path, tmp_path / "adapter"), ours(tmp_path, None))
    tensors = load_file(tmp_path / "adapter" / WEIGHTS)
    name = next(iter(tensors))
    tensors[name.replace("base_model.model.", "base_model.model.inner.", 1)] = tensors.pop(name)
    save_file(tensors, tmp_path / "adapter" / WEIGHTS)
    with pytest.raises(OwnlmError, match=r"is for nothing that an adapter may change|is missing"):
        ours(tmp_path, tmp_path / "adapter")


def same(one: torch.Tensor, other: torch.Tensor, base: torch.Tensor) -> None:
    assert near(one, other)
    assert (one - base).abs().max() > 0.1


def near(one: torch.Tensor, other: torch.Tensor, *, within: float = 1e-5) -> bool:
    """As a whole: also in float64 transformers computes norms and angles in float32."""
    return bool((one - other).norm() < within * other.norm())


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_its_own(tmp_path: Path, kind: str, dora: bool) -> None:
    """Of a sum of scores, with weights so that no part of it is the same; with DoRA, and rows for two tokens."""
    import peft
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    write_checkpoint(tmp_path, tiny_checkpoint(kind))
    wanted = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, use_dora=dora)
    wanted.fan_in_fan_out = kind == "gpt2"
    tables = table_names(kind)
    tied = tiny_checkpoint(kind).fields["tie_word_embeddings"]
    tokens = [int(IDS[0, 3]), 90]
    wanted.trainable_token_indices = {name.rpartition(".")[2]: tokens for name in tables[: 1 if tied else 2]}
    peer = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path), wanted)
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            if "trainable_tokens_delta" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    peer.save_pretrained(tmp_path / "adapter")
    decoder = read_decoder(tmp_path, dtype=torch.float64).pack()
    adapter = LoraAdapter.load(tmp_path / "adapter", decoder).double()
    with adapted(decoder, [(slice(None), adapter)]):
        logits_BTV = decoder(IDS)
    share_BTV = torch.randn(logits_BTV.shape, dtype=torch.float64)
    (logits_BTV * share_BTV).sum().backward()
    expected_BTV = peer.double()(IDS).logits
    assert near(logits_BTV, expected_BTV)
    (expected_BTV * share_BTV).sum().backward()
    theirs = {name.replace(".default", ""): value.grad for name, value in peer.named_parameters()}
    for pair in adapter.each():
        parts = {"lora_A.weight": pair.a_rE, "lora_B.weight": pair.b_Or}
        if pair.magnitude_O is not None:
            parts["lora_magnitude_vector.weight"] = pair.magnitude_O
        for name, part in parts.items():
            assert part.grad is not None
            expected = theirs[f"base_model.model.{pair.module}.{name}"]
            assert near(part.grad, expected, within=1e-3), f"{pair.module}.{name}"
    assert adapter.rows is not None
    for name, rows in zip(tables, adapter.rows.parameters(), strict=not tied):
        assert rows.grad is not None
        expected = theirs[f"base_model.model.{name}.token_adapter.trainable_tokens_delta"]
        assert near(rows.grad, expected, within=1e-3), name
