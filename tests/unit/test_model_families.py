"""What a family's file is: a new one in a few lines, tables that read both ways, refusals that name the field."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ownlm.errors import DamagedError, OwnlmError
from ownlm.model import DecoderConfig
from ownlm.model.checkpoint import Checkpoint, StoredTensor
from ownlm.model.families import FAMILIES, Rule, TensorMap, family_of, read_config
from ownlm.model.families import __file__ as families_file
from ownlm.model.families.fields import read_shape, refuse_others, with_defaults, write_shape
from ownlm.model.families.rope_fields import read_rope, write_rope
from ownlm.model.load import build_decoder, read_decoder, to_checkpoint
from tiny_models import random_decoder

REFERENCES = Path(__file__).parents[1] / "parity" / "references" / "families"
ROOT = Path(__file__).parents[2]


def fields_of(name: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((REFERENCES / name / "config.json").read_text(encoding="utf-8"))
    return fields


def test_a_new_family_is_a_few_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up family: Llama with no gate, whose q, k, v lie in one matrix, and whose trunk is called body."""
    layer = "model.layers.{}."
    qkv = tuple(f"{layer}self_attn.{part}_proj" for part in "qkv")

    def read_config(fields: Mapping[str, Any]) -> DecoderConfig:
        fields = with_defaults(fields, {"max_position_embeddings": 512, "rms_norm_eps": 1e-5, "hidden_act": "gelu"})
        refuse_others(fields)
        return DecoderConfig(**read_shape(fields), **read_rope(fields), qk_norm="none", gated=False)

    def write_config(config: DecoderConfig) -> dict[str, Any]:
        return {**write_shape(config, "InventedForCausalLM"), **write_rope(config)}

    tensors = TensorMap(rules=(Rule("body.{}.attn.qkv", qkv), Rule("body.table", ("model.embed_tokens",))))
    new = SimpleNamespace(MODEL_TYPE="invented", TENSORS=tensors, read_config=read_config, write_config=write_config)
    monkeypatch.setitem(FAMILIES, "invented", new)  # type: ignore[arg-type]

    model = random_decoder(model_type="invented", qk_norm="none", gated=False, hidden_act="gelu").eval()
    stored = to_checkpoint(model)
    assert stored.tensors["body.1.attn.qkv.weight"].shape == (64 + 2 * 32, 32) and "body.table.weight" in stored.tensors
    again = build_decoder(stored)
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    assert again.config == model.config and torch.equal(again(ids), model(ids))


def test_every_file_is_short_and_stands_in_the_docs() -> None:
    page = (ROOT / "docs" / "families.md").read_text(encoding="utf-8")
    for name, family in FAMILIES.items():
        file = Path(families_file).parent / f"{family.__name__.rpartition('.')[2]}.py"  # type: ignore[attr-defined]
        assert len(file.read_text(encoding="utf-8").splitlines()) < 120
        assert f"`{name}`" in page and f"`model/families/{file.name}`" in page


@pytest.mark.parametrize("name", ["mamba", None, 7, ["llama"], {}])
def test_a_missing_family_is_named_with_those_there_are(name: Any) -> None:
    with pytest.raises(OwnlmError, match="gemma2, gemma3, gemma3_text, gpt2, gpt_neox, granite, llama, mistral"):
        family_of({"model_type": name})


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("llama", {"sliding_window": 8}, "sliding_window is 8"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("llama", {"layer_types": ["sliding_attention", "full_attention"]}, "layer_types"),
        ("mistral", {"layer_types": ["sliding_attention", "full_attention"]}, "layer_types"),
        ("mistral", {"attention_bias": True}, "attention_bias is True"),
        ("llama", {"attention_bias": 0}, "attention_bias must be true or false"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("llama", {"rope_parameters": {"rope_type": "default", "mrope_section": [1]}}, "mrope_section"),
        ("llama", {"rope_parameters": {"rope_type": "proportional", "factor": 1.0}}, "proportional"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "partial_rotary_factor is 0.5",
        ),
        ("llama", {"rope_scaling": "linear"}, "must be an object"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("phi3", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "phi3 knows longrope alone"),
        ("olmo2", {"clip_qkv": 8.0}, "clip_qkv"),
        ("qwen2", {"embedding_multiplier": 2.0}, "embedding_multiplier"),
        ("llama", {"layer_types": ["full_attention"] * 9}, "layer_types names 9 layers, and num_hidden_layers is"),
        ("gpt2", {"layer_types": ["full_attention"] * 9}, "layer_types names 9 layers"),
        ("qwen3", {"layer_types": []}, "layer_types names 0 layers"),
        ("qwen3", {"layer_types": [{}]}, "layer_types must be a list of names"),
        ("llama", {"layer_types": {}}, "layer_types must be a list of names"),
        ("qwen2", {"use_sliding_window": False, "sliding_window": -1}, "sliding_window must be a whole number from 0"),
        ("qwen3", {"use_sliding_window": False, "sliding_window": "9"}, "sliding_window must be a whole number"),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 0}, "sliding_window must be a whole number from 1"),
        ("qwen3_moe", {"use_sliding_window": False, "sliding_window": -1}, "sliding_window must be a whole number"),
        ("qwen3", {"num_experts": 8}, "num_experts"),
        ("gpt_neox", {"hidden_act": "quick_gelu"}, "quick_gelu"),
    ],
)
def test_what_a_family_does_not_compute_is_refused(family: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(OwnlmError, match=message):
        FAMILIES[family].read_config({**fields_of(family), **change})


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "qwen3_moe"])
@pytest.mark.parametrize("window", [None, 0, 4096])
def test_a_window_that_is_not_used_may_be_any(family: str, window: int | None) -> None:
    config = FAMILIES[family].read_config(
        {**fields_of(family), "use_sliding_window": False, "sliding_window": window, "layer_types": None}
    )
    assert config.sliding_window is None


def test_what_a_configuration_is_refused_for_comes_with_a_fix() -> None:
    with pytest.raises(OwnlmError, match=r"hidden_size must be .*; fetch the model anew, or take another one$"):
        read_config({**fields_of("llama"), "hidden_size": -1})


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"gemma3"}))
def test_configs_come_back_as_they_were_written(family: str) -> None:
    config = FAMILIES[family].read_config(fields_of(family))
    written = FAMILIES[family].write_config(config)
    assert FAMILIES[family].read_config(json.loads(json.dumps(written))) == config
    assert written["model_type"] == family and len(written["architectures"]) == 1


def test_a_shape_that_its_family_cannot_say_is_not_written() -> None:
    with pytest.raises(OwnlmError, match="not one of the family qwen3"):
        to_checkpoint(random_decoder(qk_norm="none"))


def stored_part(name: str, *, by_head: bool, transposed: bool = False) -> Any:
    rule = Rule("fused", ("q", "k", "v"), by_head=by_head, transposed=transposed)
    shapes = {f"{part}.{name}": (6, 3) if name == "weight" else (6,) for part in "qkv"}
    return TensorMap(rules=(rule,)).layout(shapes, 2)[f"fused.{name}"]


@pytest.mark.parametrize("by_head", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_fused_parts_come_apart_and_together(name: str, transposed: bool, by_head: bool) -> None:
    part = stored_part(name, by_head=by_head, transposed=transposed)
    fused = torch.arange(torch.Size(part.shape).numel(), dtype=torch.float32).view(part.shape)
    parts = part.split(fused)
    assert [tuple(tensor.shape) for tensor in parts] == list(part.shapes)
    assert torch.equal(part.join(parts), fused)


def test_by_head_means_q_k_v_of_the_first_head_and_then_of_the_second() -> None:
    fused = torch.arange(18)
    q, k, v = stored_part("bias", by_head=True).split(fused)
    assert q.tolist() == [0, 1, 2, 9, 10, 11] and k.tolist() == [3, 4, 5, 12, 13, 14]
    assert v.tolist() == [6, 7, 8, 15, 16, 17]


def changed(folder: Path, **tensors: StoredTensor | None) -> Checkpoint:
    stored = to_checkpoint(read_decoder(folder))
    merged = {**stored.tensors, **{name.replace("__", "."): tensor for name, tensor in tensors.items()}}
    kept = {name: tensor for name, tensor in merged.items() if tensor is not None}
    return Checkpoint(fields=stored.fields, tensors=kept)


def tensor_of(value: torch.Tensor) -> StoredTensor:
    return StoredTensor(shape=tuple(value.shape), stored_as="F32", read=lambda: value)


def test_tensors_that_hold_no_weights_are_left_unread() -> None:
    def never() -> torch.Tensor:
        raise AssertionError("read")

    table = StoredTensor(shape=(1, 1, 64, 64), stored_as="BOOL", read=never)
    for folder, name in (
        ("gpt2", "transformer__h__0__attn__bias"),
        ("gpt_neox", "gpt_neox__layers__1__attention__bias"),
    ):
        build_decoder(changed(REFERENCES / folder, **{name: table}))
    build_decoder(changed(REFERENCES / "llama", model__layers__0__self_attn__rotary_emb__inv_freq=table))


def test_older_spellings_of_names_are_read() -> None:
    stored = to_checkpoint(read_decoder(REFERENCES / "gpt2"))
    bare = {name.removeprefix("transformer."): tensor for name, tensor in stored.tensors.items()}
    assert "h.0.ln_1.weight" in bare
    build_decoder(Checkpoint(fields=stored.fields, tensors=bare))
    with pytest.raises(DamagedError, match="stored twice"):
        build_decoder(Checkpoint(fields=stored.fields, tensors={**stored.tensors, **bare}))


def test_a_head_beside_the_embedding_it_is_tied_to_must_be_that() -> None:
    table = read_decoder(REFERENCES / "gemma2").model.embed_tokens.weight.detach()
    model = build_decoder(changed(REFERENCES / "gemma2", lm_head__weight=tensor_of(table.clone())))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    with pytest.raises(DamagedError, match="ties the head to the embedding"):
        build_decoder(changed(REFERENCES / "gemma2", lm_head__weight=tensor_of(table + 1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model__norm__weight": None}, "model.norm.weight is missing"),
        ({"extra": tensor_of(torch.zeros(1))}, "extra belongs to no layer"),
        ({"model__norm__weight": tensor_of(torch.zeros(7))}, r"has shape \[7\], not \[24\]"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: dict[str, StoredTensor | None], message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        build_decoder(changed(REFERENCES / "llama", **change))
