"""GGUF files written and read again: the same fields, the same numbers, and a file that is whole or not there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ownlm.artefact.gguf_header import read_gguf
from ownlm.errors import OwnlmError
from ownlm.model.checkpoint import Checkpoint
from ownlm.model.formats.gguf_checkpoint import gguf_checkpoint
from ownlm.model.formats.gguf_write import FILE_TYPES, write_gguf
from tiny_checkpoints import MODEL_TYPES, checkpoint_of, tiny_checkpoint, tiny_fields

TOKENIZER = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "qwen2",
    "tokenizer.ggml.tokens": [f"t{number}" for number in range(96)],
    "tokenizer.ggml.token_type": [1] * 96,
    "tokenizer.ggml.scores": [0.5] * 96,
    "tokenizer.ggml.merges": ["t 1", "t 2"],
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.chat_template": "{{ messages }} é中😀",
}


def again(path: Path, checkpoint: Checkpoint, quantization: str = "F32", **more: Any) -> Checkpoint:
    write_gguf(path, checkpoint, quantization=quantization, **more)
    return gguf_checkpoint(read_gguf(path))


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_what_is_written_reads_the_same(tmp_path: Path, kind: str) -> None:
    checkpoint = tiny_checkpoint(kind, **({"sliding_window": 64} if kind == "mistral" else {}))
    back = again(tmp_path / "x.gguf", checkpoint)
    assert dict(back.fields) == dict(checkpoint.fields)
    assert back.tensors.keys() == checkpoint.tensors.keys()
    for name, tensor in checkpoint.tensors.items():
        read = back.tensors[name].read()
        assert back.tensors[name].shape == tuple(read.shape) == tensor.shape
        assert read.dtype == torch.float32 and back.tensors[name].stored_as == "F32"
        # Gemma's norms lie there plus one.
        tolerance = 2e-7 if kind.startswith("gemma") else 0.0
        torch.testing.assert_close(read, tensor.read(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_the_file_holds_other_rows_where_rope_turns_neighbours(tmp_path: Path, kind: str) -> None:
    """A reader and a writer that both forget the order would agree with each other, and with no one else."""
    checkpoint = tiny_checkpoint(kind)
    write_gguf(tmp_path / "x.gguf", checkpoint, quantization="F32")
    file = read_gguf(tmp_path / "x.gguf")
    name = "blk.1.attn_q.weight"
    if name not in file.tensors:
        assert kind in ("gpt2", "gpt_neox", "phi3")
        return
    stored = np.frombuffer(file.stored(file.tensors[name]), np.float32).reshape(-1, 64)
    ours = checkpoint.tensors["model.layers.1.self_attn.q_proj.weight"].read().numpy()
    if kind in ("llama", "mistral", "granite"):
        # Head 2, whose rows begin at 32: its channels 0 and 8 are a pair.
        assert np.array_equal(stored[32], ours[32]) and np.array_equal(stored[33], ours[40])
        assert np.array_equal(stored[34], ours[33]) and np.array_equal(stored[35], ours[41])
    else:
        assert np.array_equal(stored, ours)


@pytest.mark.parametrize("quantization", FILE_TYPES)
def test_every_type(tmp_path: Path, quantization: str) -> None:
    checkpoint = tiny_checkpoint("qwen3_moe")
    back = again(tmp_path / "x.gguf", checkpoint, quantization)
    assert read_gguf(tmp_path / "x.gguf").metadata["general.file_type"] == FILE_TYPES[quantization]
    most = {"F32": 0, "F16": 3e-4, "BF16": 3e-3, "Q8_0": 7e-3, "Q5_1": 0.04, "Q5_0": 0.05, "Q4_1": 0.09, "Q4_0": 0.1}
    kept = dict.fromkeys(
        ("model.embed_tokens.weight", "lm_head.weight"), "Q8_0" if "Q" in quantization else quantization
    )
    for name, tensor in checkpoint.tensors.items():
        stored = back.tensors[name].stored_as
        wide = len(tensor.shape) == 1 or name.endswith("mlp.gate.weight")
        assert stored == ("F32" if wide else kept.get(name, quantization)), name
        exact, read = tensor.read(), back.tensors[name].read()
        assert (read - exact).norm() / exact.norm() <= (0 if wide else most[quantization])


def test_rows_that_are_no_whole_blocks_are_kept_wider(tmp_path: Path) -> None:
    fields = tiny_fields("llama", intermediate_size=100)
    tensors = {name: tensor.read() for name, tensor in tiny_checkpoint("llama").tensors.items()}
    tensors["model.layers.0.mlp.down_proj.weight"] = torch.ones(64, 100)
    back = again(tmp_path / "x.gguf", checkpoint_of(fields, tensors), "Q4_0")
    assert back.tensors["model.layers.0.mlp.down_proj.weight"].stored_as == "F16"
    assert back.tensors["model.layers.0.mlp.up_proj.weight"].stored_as == "Q4_0"


@pytest.mark.parametrize(("kind", "window", "context"), [("mistral", 24, 24), ("phi3", 24, 24), ("phi3", 99, 64)])
def test_a_context_ends_where_llama_cpp_would_need_a_window(
    tmp_path: Path, kind: str, window: int, context: int
) -> None:
    """It has none for these, so past the window its answers would be wrong."""
    back = again(tmp_path / "x.gguf", tiny_checkpoint(kind, sliding_window=window))
    assert back.fields["sliding_window"] == window and back.fields["max_position_embeddings"] == context


def test_a_list_that_is_empty_is_written(tmp_path: Path) -> None:
    """llama.cpp opens no BPE without its merges, be there none."""
    bare = {**TOKENIZER, "tokenizer.ggml.merges": []}
    write_gguf(tmp_path / "x.gguf", tiny_checkpoint("llama"), quantization="F32", tokenizer_metadata=bare)
    assert read_gguf(tmp_path / "x.gguf").metadata["tokenizer.ggml.merges"] == []


def test_the_tokenizer_goes_along(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    write_gguf(path, tiny_checkpoint("llama"), quantization="F16", tokenizer_metadata=TOKENIZER, name="a name")
    metadata = read_gguf(path).metadata
    assert metadata["general.name"] == "a name" and metadata["tokenizer.chat_template"] == "{{ messages }} é中😀"
    assert metadata["tokenizer.ggml.tokens"] == TOKENIZER["tokenizer.ggml.tokens"]
    assert metadata["tokenizer.ggml.merges"] == ["t 1", "t 2"]
    assert metadata["tokenizer.ggml.eos_token_id"] == 2 and metadata["tokenizer.ggml.add_bos_token"] is False


def test_ids_that_the_tokenizer_leaves_out_are_the_models(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("llama", bos_token_id=None, eos_token_id=[7, 8])
    write_gguf(tmp_path / "x.gguf", checkpoint, quantization="F32")
    metadata = read_gguf(tmp_path / "x.gguf").metadata
    assert metadata["tokenizer.ggml.eos_token_id"] == 7 and "tokenizer.ggml.bos_token_id" not in metadata
    assert metadata["tokenizer.ggml.model"] == "none"


def test_what_the_caller_gives_wrong_is_refused(tmp_path: Path) -> None:
    path, checkpoint = tmp_path / "x.gguf", tiny_checkpoint("llama")
    with pytest.raises(OwnlmError, match=r"'Q9_9' is no type .* choose from F32, F16, Q4_0"):
        write_gguf(path, checkpoint, quantization="Q9_9")
    with pytest.raises(OwnlmError, match=r"begin with 'tokenizer.', and 'ggml.x' does not"):
        write_gguf(path, checkpoint, quantization="F32", tokenizer_metadata={"ggml.x": 1})
    with pytest.raises(OwnlmError, match="has 96 tokens and the model 64 rows"):
        smaller = checkpoint_of({**checkpoint.fields, "vocab_size": 64}, {})
        write_gguf(path, smaller, quantization="F32", tokenizer_metadata=TOKENIZER)
    path.write_text("mine")
    with pytest.raises(OwnlmError, match="already there"):
        write_gguf(path, checkpoint, quantization="F32")
    assert path.read_text() == "mine" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("llama", {"hidden_act": "relu"}, "computes llama with hidden_act 'silu', and this model has 'relu'"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window False"),
        ("qwen3_moe", {"norm_topk_prob": False}, "norm_topk_prob True"),
        ("gemma2", {"query_pre_attn_scalar": 99}, "root of 16, and this model's query_pre_attn_scalar is 99"),
        ("gemma2", {"final_logit_softcapping": None}, "caps every gemma2's logits"),
        ("gemma3_text", {"layer_types": ["full_attention"]}, "names 1 layers of 3"),
        ("llama", {"hidden_size": None}, "lacks hidden_size"),
        ("llama", {"vocab_size": "96"}, "vocab_size is '96', no count"),
        ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "no RoPE scaling of type 'dynamic'"),
        ("qwen2", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "no RoPE scaling of type llama3 for qwen2"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    tmp_path: Path, kind: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(OwnlmError, match=words):
        write_gguf(tmp_path / "x.gguf", tiny_checkpoint(kind, **changes), quantization="F32")
    assert list(tmp_path.iterdir()) == []


def test_unknown_families_and_tensors_are_refused(tmp_path: Path) -> None:
    path, good = tmp_path / "x.gguf", tiny_checkpoint("llama")
    with pytest.raises(OwnlmError, match=r"model_type 'bert' cannot be written as GGUF \(only gemma2, .*qwen3_moe\)"):
        write_gguf(path, checkpoint_of({**good.fields, "model_type": "bert"}, {}), quantization="F32")
    tensors = {name: tensor.read() for name, tensor in good.tensors.items()}
    with pytest.raises(OwnlmError, match=r"'model.layers.0.extra.weight' has no place"):
        more = checkpoint_of(dict(good.fields), {**tensors, "model.layers.0.extra.weight": torch.ones(2)})
        write_gguf(path, more, quantization="F32")
    with pytest.raises(OwnlmError, match=r"lacks lm_head.weight"):
        untied = checkpoint_of({**good.fields, "tie_word_embeddings": False}, tensors)
        write_gguf(path, untied, quantization="F32")
    experts = tiny_checkpoint("qwen3_moe")
    missing = {n: t.read() for n, t in experts.tensors.items() if ".1.mlp.experts.2.up" not in n}
    with pytest.raises(OwnlmError, match=r"blk.1.ffn_up_exps.weight must hold 4 experts of one shape; the model has 3"):
        write_gguf(path, checkpoint_of(dict(experts.fields), missing), quantization="F32")


@pytest.mark.parametrize(("number", "words"), [(float("nan"), "NaN or infinite"), (1e6, "too large for F16")])
def test_numbers_that_the_type_cannot_hold(tmp_path: Path, number: float, words: str) -> None:
    good = tiny_checkpoint("llama")
    tensors = {name: tensor.read().clone() for name, tensor in good.tensors.items()}
    tensors["model.layers.2.mlp.up_proj.weight"][3, 4] = number
    with pytest.raises(OwnlmError, match=rf"'blk.2.ffn_up.weight' holds numbers {words}|holds {words}"):
        write_gguf(tmp_path / "x.gguf", checkpoint_of(dict(good.fields), tensors), quantization="F16")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shutil import disk_usage

    real = disk_usage(tmp_path)
    monkeypatch.setattr("ownlm.model.formats.gguf_write.disk_usage", lambda path: real._replace(free=1000))
    with pytest.raises(OwnlmError, match=r"x.gguf needs 0 MB, which its disk has not"):
        write_gguf(tmp_path / "x.gguf", tiny_checkpoint("llama"), quantization="F32")
    monkeypatch.undo()

    def full(self: object, *_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gguf.GGUFWriter.write_tensor_data", full)
    with pytest.raises(OwnlmError, match=r"cannot write .*x.gguf: No space left on device"):
        write_gguf(tmp_path / "x.gguf", tiny_checkpoint("llama"), quantization="F32")
    assert list(tmp_path.iterdir()) == []


def test_a_tied_head_is_written_where_llama_cpp_wants_one(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("olmo2", tie_word_embeddings=True)
    write_gguf(tmp_path / "x.gguf", checkpoint, quantization="Q4_0")
    file = read_gguf(tmp_path / "x.gguf")
    assert file.stored(file.tensors["output.weight"]) == file.stored(file.tensors["token_embd.weight"])
    # Read again it is tied as it was; a head of its own stays one.
    back = gguf_checkpoint(file)
    assert back.fields["tie_word_embeddings"] and back.tensors.keys() == checkpoint.tensors.keys()
    assert not again(tmp_path / "y.gguf", tiny_checkpoint("olmo2")).fields["tie_word_embeddings"]


def test_gpt2_and_pythia_under_their_other_names(tmp_path: Path) -> None:
    for kind, spelling in (("gpt2", ("transformer.", "")), ("gpt_neox", ("embed_out", "lm_head"))):
        checkpoint = tiny_checkpoint(kind)
        other = {name.replace(*spelling): tensor.read() for name, tensor in checkpoint.tensors.items()}
        other["x.0.attn.bias" if kind == "gpt2" else "x.attention.rotary_emb.inv_freq"] = torch.ones(1)
        back = again(tmp_path / f"{kind}.gguf", checkpoint_of(dict(checkpoint.fields), other))
        assert back.tensors.keys() == checkpoint.tensors.keys()
