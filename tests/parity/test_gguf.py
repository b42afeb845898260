"""GGUF files against transformers, which reads those that we write, and whose reading of real ones we share."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.artefact.gguf_header import read_gguf
from ownlm.model.formats.gguf_checkpoint import gguf_checkpoint
from ownlm.model.formats.gguf_write import write_gguf
from ownlm.model.load import build_decoder
from tiny_checkpoints import checkpoint_of, tiny_fields

pytestmark = pytest.mark.peers
# What transformers reads of what we write. It knows no gptneox, olmo2 and granite: those are llama.cpp's to referee.
# It overlooks sizes that some files state: there the models have the sizes that it takes for given.
READ_THERE: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 128},
    "qwen3_moe": {"moe_intermediate_size": 768},
    "gemma2": {"head_dim": 256, "query_pre_attn_scalar": 256},
    "gemma3_text": {
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        # Neither the scaling of the full layers' angles nor which layers are full.
        "rope_scaling": None,
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
        "layer_types": ["sliding_attention"] * 3,
    },
    "gpt2": {"n_inner": 256, "n_positions": 1024, "n_ctx": 1024},
    "phi3": {"max_position_embeddings": 4096, "original_max_position_embeddings": 4096},
}
NO_GGUF = "announced: OWNLM_TEST_GGUF names no folder with the real models' GGUF files"
REAL = ("SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m.Q4_K_M.gguf", "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf")
# transformers' config names what it computes with; these it leaves at defaults, whatever the file says.
_NOT_COMPARED = {"architectures", "torch_dtype", "dtype", "rope_theta", "rope_scaling", "rope_local_base_freq"}
_NOT_COMPARED |= {"n_ctx", "n_inner"}


_DERIVED = ("head_dim", "partial_rotary_factor")


def peer_of(path: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()


def by_file_names(model: Any) -> dict[str, torch.Tensor]:
    """A peer's weights under the names that its files have: experts apart, a tied head left out."""
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        stem, _, last = name.rpartition(".")
        if last in ("gate_up_proj", "down_proj") and stem.endswith("experts"):
            for expert, matrix in enumerate(tensor):
                parts = matrix.chunk(2) if last == "gate_up_proj" else (matrix,)
                for part, what in zip(parts, ("gate", "up") if len(parts) == 2 else ("down",), strict=True):
                    weights[f"{stem}.{expert}.{what}_proj.weight"] = part
        else:
            weights[name] = tensor
    return weights


def assert_same_weights(ours: Any, theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor.read(), theirs[name]), name


def assert_same_fields(fields: Any, config: Any) -> None:
    for name, value in fields.items():
        nested = name == "rope_parameters" and "sliding_attention" in value
        if name in _NOT_COMPARED or nested or (name in _DERIVED and not hasattr(config, name)):
            continue
        theirs = getattr(config, name)
        if isinstance(value, dict):
            theirs = {key: theirs.get(key) for key in value}
        assert theirs == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), name


@pytest.mark.parametrize("model_type", READ_THERE)
def test_what_we_write_opens_there_with_the_same_logits(tmp_path: Path, model_type: str) -> None:
    """A peer's own random model through our file and back into the peer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(5)
    fields = tiny_fields(model_type, pad_token_id=3, **READ_THERE[model_type])
    given = {name: value for name, value in fields.items() if name not in ("dtype", "torch_dtype", "rope_scaling")}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**given)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    weights = by_file_names(model)
    path = tmp_path / "model.gguf"
    tokens = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": [f"t{number}" for number in range(96)]}
    write_gguf(path, checkpoint_of(fields, weights), quantization="F32", tokenizer_metadata=tokens)
    peer = peer_of(path)
    ours = gguf_checkpoint(read_gguf(path))
    assert_same_weights(ours.tensors, by_file_names(peer))
    assert_same_fields(ours.fields, peer.config)
    ids = torch.arange(40).view(2, 20)
    with torch.inference_mode():
        # Gemma's norms went through 1 + w.
        torch.testing.assert_close(peer(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", REAL)
def test_real_files_read_as_they_do_there(name: str) -> None:
    folder = os.environ.get("OWNLM_TEST_GGUF")
    if folder is None or not (Path(folder) / name).is_file():
        pytest.skip(NO_GGUF)
    path = Path(folder) / name
    ours = gguf_checkpoint(read_gguf(path))
    peer = peer_of(path)
    assert_same_fields(ours.fields, peer.config)
    assert_same_weights(ours.tensors, by_file_names(peer))
    ids = torch.tensor([[2, *range(500, 2000, 100)]])
    with torch.inference_mode():
        theirs_BTV = peer(ids).logits
        del peer
        torch.testing.assert_close(build_decoder(ours)(ids), theirs_BTV, rtol=0, atol=1e-3)
