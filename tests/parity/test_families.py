"""Every family against transformers: its recorded logits, and (peers) itself in every way that a model is read."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from cached_reading import CachedTexts, in_pieces
from ownlm.model import parameter_count
from ownlm.model.families import FAMILIES
from ownlm.model.formats import read_checkpoint, write_checkpoint
from ownlm.model.load import build_decoder, read_decoder, to_checkpoint, write_decoder

REFERENCES = Path(__file__).parent / "references"


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_families", REFERENCES / "make_families.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


MAKER = _maker()
SIZES, GEMMA, MOE = MAKER.SIZES, MAKER.GEMMA, MAKER.MOE
# Lengths of the pieces that a cache is fed: one token, chunks, and past every window and original context.
PIECES = (1, 6, 1, 1, 13, 1, 9, 8)
LENGTH = sum(PIECES)


def rope(kind: str, **settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 1000.0, **settings}}


YARN = {"factor": 4.0, "original_max_position_embeddings": 16}
SHORT = {"max_position_embeddings": 24}
NEOX = MAKER.CASES["gpt_neox"][1]
PHI3 = MAKER.CASES["phi3"][1]
LONGROPE = {"short_factor": [1.0, 1.1, 1.2], "long_factor": [1.5, 2.0, 3.0], "factor": 5.0, "attention_factor": 1.4}
KINDS = ["sliding_attention", "full_attention"]
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **MAKER.CASES,
    "llama, biases, no sharing": (
        "LlamaConfig",
        {**SIZES, "num_key_value_heads": None, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    ),
    "llama, own head_dim": ("LlamaConfig", {**SIZES, "head_dim": 10, "hidden_act": "gelu_pytorch_tanh"}),
    "llama, linear": ("LlamaConfig", {**SIZES, **rope("linear", factor=3.0)}),
    "llama, dynamic": ("LlamaConfig", {**SIZES, **SHORT, **rope("dynamic", factor=2.0)}),
    "llama, yarn": ("LlamaConfig", {**SIZES, "head_dim": 16, **rope("yarn", **YARN)}),
    "qwen3, yarn with mscale": (
        "Qwen3Config",
        {**SIZES, "head_dim": 16, **rope("yarn", **YARN, mscale=0.7, mscale_all_dim=1.3, truncate=False, beta_fast=8)},
    ),
    "qwen2, yarn with attention_factor": (
        "Qwen2Config",
        {**SIZES, "head_dim": 16, **rope("yarn", **YARN, attention_factor=1.7, beta_slow=2)},
    ),
    "qwen2, windows": (
        "Qwen2Config",
        {**SIZES, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "qwen3, layer_types, biases": (
        "Qwen3Config",
        {**SIZES, "use_sliding_window": True, "sliding_window": 4, "layer_types": KINDS, "attention_bias": True},
    ),
    "mistral, no window": ("MistralConfig", {**SIZES, "sliding_window": None}),
    "mistral, window of one": ("MistralConfig", {**SIZES, "sliding_window": 1}),
    "gemma2, no caps, layer_types": (
        "Gemma2Config",
        {
            **SIZES,
            **GEMMA,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": 5.0,
            "layer_types": [KINDS[1], KINDS[0], KINDS[1]],
        },
    ),
    "gemma3, linear, cap": (
        "Gemma3TextConfig",
        {
            **SIZES,
            **GEMMA,
            "final_logit_softcapping": 2.0,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
            },
            "layer_types": [KINDS[0], KINDS[1], KINDS[0]],
        },
    ),
    "olmo2, biases": ("Olmo2Config", {**SIZES, "num_key_value_heads": None, "attention_bias": True}),
    "phi3, window": (
        "Phi3Config",
        {**SIZES, "sliding_window": 7, "partial_rotary_factor": 0.5, "pad_token_id": 0, "tie_word_embeddings": True},
    ),
    "phi3, longrope with factors": ("Phi3Config", {**PHI3, **rope("longrope", **LONGROPE)}),
    "granite, biases": (
        "GraniteConfig",
        {**MAKER.CASES["granite"][1], "attention_bias": True, "mlp_bias": True, **rope("yarn", **YARN)},
    ),
    "gpt_neox, one after the other, no bias": (
        "GPTNeoXConfig",
        {**NEOX, "use_parallel_residual": False, "attention_bias": False, "hidden_act": "gelu_new"},
    ),
    "gpt_neox, dynamic": (
        "GPTNeoXConfig",
        {**NEOX, **SHORT, **rope("dynamic", factor=2.0, partial_rotary_factor=1.0), "tie_word_embeddings": True},
    ),
    "gpt2, unscaled, own width": (
        "GPT2Config",
        {**MAKER.GPT2, "scale_attn_weights": False, "n_inner": 20, "activation_function": "relu"},
    ),
    "qwen3_moe, every second layer": (
        "Qwen3MoeConfig",
        {
            **SIZES,
            **MOE,
            "norm_topk_prob": False,
            "mlp_only_layers": [],
            "decoder_sparse_step": 2,
            "use_sliding_window": True,
            "sliding_window": 6,
            "attention_bias": True,
            "tie_word_embeddings": True,
        },
    ),
}
# Their angles depend on the length, so that a cache's keys keep those of earlier calls, there as here.
BY_LENGTH = [name for name in VARIANTS if "dynamic" in name or (name.startswith("phi3") and "window" not in name)]


def ids_of(rows: int, length: int, *, seed: int = 0) -> Tensor:
    return torch.randint(1, SIZES["vocab_size"], (rows, length), generator=torch.Generator().manual_seed(seed))


def close(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.abs().max() > 1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


# What `make test` holds: references that need no transformers.


def test_every_family_has_a_reference() -> None:
    assert set(MAKER.CASES) == set(FAMILIES) - {"gemma3"}
    size = sum(path.stat().st_size for path in (REFERENCES / "families").rglob("*.*"))
    assert size < 600_000


@pytest.mark.parametrize("name", MAKER.CASES)
def test_the_recorded_logits(name: str) -> None:
    folder = REFERENCES / "families" / name
    model = read_decoder(folder)
    expected = torch.tensor(json.loads((folder / "expected.json").read_text(encoding="utf-8"))["logits"])
    ids = torch.tensor([MAKER.IDS])
    with torch.inference_mode():
        close(model(ids)[0, :, ::6], expected)
    assert parameter_count(model.config) == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", MAKER.CASES)
def test_written_again_it_is_the_same_tensor_by_tensor(name: str, tmp_path: Path) -> None:
    """Names and layout as transformers wrote them; in shards the same; and in bfloat16 nothing is lost."""
    folder = REFERENCES / "families" / name
    stored, model = read_checkpoint(folder), read_decoder(folder, dtype=torch.bfloat16)
    files = write_checkpoint(tmp_path, to_checkpoint(model), shard_bytes=8_000)
    assert len(files) > 4 and {path.name for path in tmp_path.iterdir()} == set(files)
    again = read_checkpoint(tmp_path)
    spellings = {"lm_head.weight": "embed_out.weight"} if name == "gpt_neox" else {}
    names = {spellings.get(tensor, tensor): tensor for tensor in stored.tensors}
    assert set(again.tensors) == set(names)
    for theirs, ours in names.items():
        assert torch.equal(again.tensors[theirs].read(), stored.tensors[ours].read()), theirs
    assert build_decoder(again).config == model.config


@pytest.mark.parametrize("name", MAKER.CASES)
def test_in_pieces_and_beside_others_it_says_what_it_says_at_once(name: str) -> None:
    model = read_decoder(REFERENCES / "families" / name)
    ids = ids_of(1, 30)
    with torch.inference_mode():
        whole = model(ids)
    if name not in BY_LENGTH:
        torch.testing.assert_close(in_pieces(model, ids, (3, 1, 9, 1, 16)), whole, rtol=0, atol=2e-5)
    padding = [0, 5, 17]
    together = CachedTexts(model, 3, most=30).read([ids[0, pad:].tolist() for pad in padding])
    for row, pad in enumerate(padding):
        with torch.inference_mode():
            alone = model(ids[:, pad:])[0]
        torch.testing.assert_close(together[row], alone, rtol=0, atol=2e-5)


# What `make test-peers` holds.


@pytest.fixture(scope="module", params=VARIANTS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any, Path]:
    """(name, transformers' model, the folder that it saved)."""
    folder = tmp_path_factory.mktemp("theirs")
    peer = MAKER.make_model(*VARIANTS[request.param])
    peer.save_pretrained(folder / "single")
    peer.save_pretrained(folder / "sharded", max_shard_size="6KB")
    return request.param, peer, folder


@pytest.mark.peers
def test_logits_at_once_and_in_pieces(pair: tuple[str, Any, Path]) -> None:
    name, peer, folder = pair
    model, ids = read_decoder(folder / "single"), ids_of(2, LENGTH)
    with torch.inference_mode():
        theirs = peer(ids).logits
        close(model(ids), theirs)
        if name in BY_LENGTH:
            past, parts = None, []
            for piece in ids.split(PIECES, dim=1):
                out = peer(piece, past_key_values=past, use_cache=True)
                past, parts = out.past_key_values, [*parts, out.logits]
            assert (torch.cat(parts, 1) - theirs).abs().max() > 1e-3
            theirs = torch.cat(parts, 1)
    close(in_pieces(model, ids, PIECES), theirs)
    if name not in BY_LENGTH:
        close(in_pieces(model, ids, (1,) * LENGTH), theirs)


@pytest.mark.peers
def test_a_batch_of_texts_of_different_lengths(pair: tuple[str, Any, Path]) -> None:
    name, peer, folder = pair
    model, padding = read_decoder(folder / "single"), [0, 7, LENGTH - 3]
    ids = ids_of(3, LENGTH, seed=1)
    mask = (torch.arange(LENGTH) >= torch.tensor(padding).unsqueeze(1)).long()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    ours = CachedTexts(model, 3, most=LENGTH).read([ids[row, pad:].tolist() for row, pad in enumerate(padding)])
    with torch.inference_mode():
        theirs = peer(ids, attention_mask=mask, position_ids=positions).logits
        for row, pad in enumerate(padding):
            # Here each row goes by its own length, there all by the longest.
            if name in BY_LENGTH:
                # And there a longer sequence is remembered until a short one comes.
                peer(ids[:, :2])
            alone = peer(ids[row : row + 1, pad:]).logits[0] if name in BY_LENGTH else theirs[row, pad:]
            close(ours[row], alone)


@pytest.mark.peers
def test_shards_are_the_single_file(pair: tuple[str, Any, Path]) -> None:
    _, _, folder = pair
    assert len(list((folder / "sharded").glob("*.safetensors"))) > 1
    single, sharded = read_decoder(folder / "single"), read_decoder(folder / "sharded")
    assert single.config == sharded.config
    for (name, one), other in zip(single.named_parameters(), sharded.parameters(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.peers
def test_tied_stay_tied(pair: tuple[str, Any, Path]) -> None:
    _, peer, folder = pair
    model = read_decoder(folder / "single")
    tied = peer.lm_head.weight is peer.get_input_embeddings().weight if hasattr(peer, "lm_head") else True
    for moved in (model, model.to(torch.bfloat16), model.to("cpu")):
        same = moved.lm_head.weight.data_ptr() == moved.model.embed_tokens.weight.data_ptr()
        assert same is tied is model.config.tie_word_embeddings
    assert parameter_count(model.config) == sum(parameter.numel() for parameter in peer.parameters())


@pytest.mark.peers
def test_what_we_save_opens_there_with_the_same_logits(pair: tuple[str, Any, Path], tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    _, peer, folder = pair
    model = read_decoder(folder / "single")
    write_decoder(tmp_path, model, eos_ids=[2, 3], pad_id=0)
    again, report = AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(again) is type(peer)
    ids = ids_of(2, LENGTH, seed=2)
    with torch.inference_mode():
        torch.testing.assert_close(again.eval()(ids).logits, peer(ids).logits, rtol=0, atol=1e-5)
    assert read_decoder(tmp_path).config == model.config


@pytest.mark.peers
def test_the_text_part_of_a_model_that_also_sees(tmp_path: Path) -> None:
    """gemma3: the text's config is nested, its tensors are prefixed, and those of the eyes are left alone."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {**MAKER.CASES["gemma3_text"][1], "vocab_size": 48}
    vision = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
        "model_type": "siglip_vision_model",
    }
    config = Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=1, image_token_index=47, boi_token_index=46
    )
    torch.manual_seed(0)
    peer = Gemma3ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.normal_(std=0.2)
    peer.save_pretrained(tmp_path / "theirs")
    model = read_decoder(tmp_path / "theirs")
    ids = ids_of(2, 30) % 46
    with torch.inference_mode():
        close(model(ids), peer(ids).logits)
    write_decoder(tmp_path, model, eos_ids=[1], pad_id=0)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "gemma3_text"


# config.json files as they lie on the hub: short, and with the names of their time.
OLD: dict[str, tuple[str, dict[str, Any]]] = {
    "llama 1": (
        "llama",
        {name: SIZES[name] for name in SIZES if name not in ("num_key_value_heads", "max_position_embeddings")},
    ),
    "llama 3.1": (
        "llama",
        {
            **SIZES,
            "rope_theta": 500000.0,
            "rope_scaling": {
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
                "rope_type": "llama3",
            },
            "torch_dtype": "bfloat16",
        },
    ),
    "llama, type": ("llama", {**SIZES, "rope_scaling": {"type": "linear", "factor": 2.0}, "head_dim": None}),
    "mistral 0.2": ("mistral", {**SIZES, "rope_theta": 1e6, "sliding_window": None}),
    "qwen2": ("qwen2", {**SIZES, "sliding_window": 9, "use_sliding_window": False, "rope_theta": 1e6}),
    "qwen2.5 long": (
        "qwen2",
        {**SIZES, "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 16, "type": "yarn"}},
    ),
    "gemma2": (
        "gemma2",
        {**SIZES, **GEMMA, "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh"},
    ),
    "gemma3": (
        "gemma3_text",
        {
            **SIZES,
            **GEMMA,
            "sliding_window_pattern": 2,
            "rope_theta": 5000.0,
            "rope_local_base_freq": 77.0,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    "phi3 128k": (
        "phi3",
        {
            **SIZES,
            "original_max_position_embeddings": 12,
            "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.1, 1.2], "long_factor": [1.0, 2.0, 3.0]},
            "pad_token_id": 0,
        },
    ),
    "phi3, yarn means longrope": (
        "phi3",
        {
            **SIZES,
            "rope_scaling": {"type": "yarn", "short_factor": [1.0, 1.1, 1.2], "long_factor": [1.0, 2.0, 3.0]},
            "original_max_position_embeddings": 12,
            "pad_token_id": 0,
        },
    ),
    "pythia": ("gpt_neox", {**NEOX, "rotary_pct": 0.5, "rotary_emb_base": 777, "layer_norm_eps": 1e-3}),
    "gpt2, our names": (
        "gpt2",
        {"vocab_size": 48, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4, "n_ctx": 1024},
    ),
    "granite 3": ("granite", {**SIZES, "attention_multiplier": 0.015625, "embedding_multiplier": 12.0}),
    "olmo2": ("olmo2", {**SIZES, "rope_theta": 500000}),
    "qwen3_moe": ("qwen3_moe", {**SIZES, **MOE, "max_window_layers": 3, "num_local_experts": 5}),
}


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OLD)
def test_config_files_of_their_time(name: str, tmp_path: Path) -> None:
    """What is missing takes the default that transformers gives it."""
    import transformers

    kind, fields = OLD[name]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, **fields}))
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    config._attn_implementation = "eager"
    peer = MAKER.randomised(transformers.AutoModelForCausalLM.from_config(config))
    peer.save_pretrained(tmp_path / "weights")
    shutil.copy(tmp_path / "weights" / "model.safetensors", tmp_path / "model.safetensors")
    peer.float()
    ids = ids_of(1, LENGTH)
    with torch.inference_mode():
        close(read_decoder(tmp_path)(ids), peer(ids).logits)
