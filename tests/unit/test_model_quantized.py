"""What a model computes in: blocks of 4 bits, bfloat16, float32; each held to float32."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.artefact.gguf_header import read_gguf
from ownlm.errors import OwnlmError
from ownlm.model import Decoder, arithmetic, quantized
from ownlm.model.arithmetic import Arithmetic, choose_arithmetic
from ownlm.model.checkpoint import Checkpoint
from ownlm.model.formats.gguf_checkpoint import gguf_checkpoint
from ownlm.model.formats.gguf_write import write_gguf
from ownlm.model.four_bits import FourBits
from ownlm.model.load import build_decoder, to_checkpoint
from ownlm.model.lora import LoraAdapter, adapted
from ownlm.model.lora_pair import LoraConfig
from ownlm.opened import convert, load
from tiny_checkpoints import MODEL_TYPES, checkpoint_of, tiny_checkpoint

IDS = torch.arange(40).unsqueeze(0)
# Of logits' size, against float32. What bfloat16 costs these models: the packed kernels may not cost more.
MOST_ERROR = 0.03


def calm(kind: str) -> Checkpoint:
    """A tiny model with weights of the size that trained ones have: others would make much of any rounding."""
    wild = tiny_checkpoint(kind)
    tensors = {name: stored.read() * (0.15 if len(stored.shape) > 1 else 1) for name, stored in wild.tensors.items()}
    return checkpoint_of(dict(wild.fields), tensors)


def in_file(path: Path, kind: str, quantization: str) -> Checkpoint:
    write_gguf(path, calm(kind), quantization=quantization)
    return gguf_checkpoint(read_gguf(path))


def error(got: torch.Tensor, exact: torch.Tensor) -> float:
    return float((got.float() - exact).norm() / exact.norm())


@torch.inference_mode()
def few_rows(decoder: Decoder, rows: int = 4) -> torch.Tensor:
    """Logits of the first rows, each forward pass small enough for the packed kernels."""
    return decoder(IDS[:, :rows])


@pytest.mark.parametrize("quantization", ["Q4_0", "Q4_1"])
@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_blocks_compute_what_the_dequantised_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, quantization: str
) -> None:
    monkeypatch.setattr(quantized, "has_fast_bfloat16", lambda: False)
    checkpoint = in_file(tmp_path / "x.gguf", kind, quantization)
    exact, blocks = build_decoder(checkpoint).pack(), build_decoder(checkpoint, keep_blocks=True).pack()
    assert blocks.arithmetic == f"int4 blocks ({quantization}), int8 head (Q8_0), bfloat16 activations"
    assert exact.arithmetic == "float32" and blocks.in_blocks and not exact.in_blocks
    wanted = few_rows(exact)
    assert 0 < error(few_rows(blocks), wanted) < MOST_ERROR
    with torch.inference_mode():
        # Many rows go through the dense matrices, which hold the file's own numbers; an expert has few of them.
        assert error(blocks(IDS), exact(IDS)) < (MOST_ERROR if kind == "qwen3_moe" else 1e-5)


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_bfloat16_computes_what_float32_does(kind: str) -> None:
    exact, low = build_decoder(calm(kind)).pack(), build_decoder(calm(kind), dtype=torch.bfloat16).pack()
    assert low.arithmetic == "bfloat16"
    assert 0 < error(few_rows(low), few_rows(exact)) < MOST_ERROR
    few = [weight for name, weight in low.named_parameters() if "norm" in name or "mlp.gate." in name]
    assert {weight.dtype for weight in few} == {torch.float32}
    assert low.model.embed_tokens.weight.dtype == torch.bfloat16


@torch.inference_mode()
def test_a_kernels_row_depends_on_that_row_alone(tmp_path: Path) -> None:
    decoder = build_decoder(in_file(tmp_path / "x.gguf", "llama", "Q4_1"), keep_blocks=True).pack()
    x = torch.randn(min(quantized.FEW_ROWS.values()), 64)
    for projection in (decoder.outward, decoder.model.layers[0].self_attn.inward):
        together, alone = projection(x), torch.cat([projection(row[None]) for row in x])
        assert torch.equal(together, alone)


def test_a_model_too_large_for_dense_matrices_has_blocks_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = in_file(tmp_path / "x.gguf", "qwen2", "Q4_0")  # with biases
    exact = build_decoder(checkpoint)
    monkeypatch.setattr(quantized, "DENSE_SHARE", 0.0)
    blocks = build_decoder(checkpoint, keep_blocks=True).pack()
    with torch.inference_mode():
        assert 0 < error(blocks(IDS), exact(IDS)) < MOST_ERROR


def test_layers_of_other_types_stay_dense(tmp_path: Path) -> None:
    """A projection of which one layer is wider, as files of mixed types have them."""
    checkpoint = in_file(tmp_path / "x.gguf", "llama", "Q4_0")
    wider = in_file(tmp_path / "y.gguf", "llama", "Q8_0")
    name = "model.layers.1.self_attn.v_proj.weight"
    mixed = Checkpoint(fields=checkpoint.fields, tensors={**checkpoint.tensors, name: wider.tensors[name]})
    decoder = build_decoder(mixed, keep_blocks=True).pack()
    assert decoder.arithmetic == "int4 blocks (Q4_0), float32, int8 head (Q8_0), bfloat16 activations"
    assert 0 < error(few_rows(decoder), few_rows(build_decoder(mixed))) < MOST_ERROR


@torch.inference_mode()
@pytest.mark.parametrize("dora", [False, True])
def test_adapters_stand_beside_blocks(tmp_path: Path, dora: bool) -> None:
    checkpoint = in_file(tmp_path / "x.gguf", "llama", "Q4_1")
    exact, blocks = build_decoder(checkpoint), build_decoder(checkpoint, keep_blocks=True).pack()
    adapter = LoraAdapter.new(
        blocks, LoraConfig(rank=4, alpha=8, dora=dora), modules=["k_proj", "gate_proj", "down_proj"]
    )
    for pair in adapter.each():
        pair.b_Or.normal_(std=0.05)
    before = few_rows(blocks)
    with adapted(blocks, [(slice(8, None), adapter)]):
        beside = few_rows(blocks)
    assert torch.equal(beside[:, :8], before[:, :8])
    adapter.merge(exact)
    assert error(beside[:, :8], few_rows(exact)[:, :8]) > MOST_ERROR > error(before[:, :8], beside[:, :8])
    with adapted(blocks, [(slice(None), adapter)]):
        assert error(few_rows(blocks), few_rows(exact)) < MOST_ERROR
    with pytest.raises(OwnlmError, match="cannot be merged into 4-bit blocks"):
        adapter.merge(blocks)


def dense_of(decoder: Decoder, checkpoint: Checkpoint) -> Decoder:
    """The same numbers as matrices of float32."""
    dense = build_decoder(checkpoint)
    for layer, (projection, columns) in decoder.places.items():
        if isinstance(projection.kernel, FourBits):
            with torch.no_grad():
                dense.get_parameter(f"{layer}.weight").copy_(projection.kernel.weight(torch.float32)[columns])
    return dense.pack()


@pytest.mark.parametrize("kind", MODEL_TYPES)
@pytest.mark.parametrize(("quantization", "dora"), [("Q4_0", False), ("Q4_1", True), ("F32", False)])
def test_an_adapter_learns_beside_four_bits_as_beside_their_numbers(
    tmp_path: Path, kind: str, quantization: str, dora: bool
) -> None:
    checkpoint = in_file(tmp_path / "x.gguf", kind, quantization)
    decoder = build_decoder(checkpoint, four_bits=True).pack()
    assert decoder.in_blocks and decoder.arithmetic == "4-bit blocks, float32"
    dense = build_decoder(checkpoint).pack() if quantization != "F32" else dense_of(decoder, checkpoint)
    found = []
    for model in (decoder, dense):
        adapter = LoraAdapter.new(model, LoraConfig(rank=2, alpha=4, dora=dora))
        with torch.no_grad():
            for pair in adapter.each():
                pair.b_Or.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
        with adapted(model, [(slice(None), adapter)]):
            logits = model(IDS)
            logits.logsumexp(-1).sum().backward()
        found.append([logits.detach(), *(parameter.grad for parameter in adapter.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_four_bits_made_here_are_those_of_a_file(tmp_path: Path) -> None:
    decoders = [
        build_decoder(source, four_bits=True) for source in (calm("gpt2"), in_file(tmp_path / "x", "gpt2", "Q4_1"))
    ]
    for one, other in zip(*(decoder.projections for decoder in decoders), strict=True):
        if isinstance(one.kernel, FourBits) and isinstance(other.kernel, FourBits):
            assert torch.equal(one.kernel.weight(torch.float32), other.kernel.weight(torch.float32))


def test_four_bits_take_a_sixth_of_the_memory_and_keep_nothing_for_the_way_back() -> None:
    decoder = build_decoder(calm("llama"), four_bits=True).pack()
    kernel = decoder.model.layers[0].mlp.inward.kernel
    assert isinstance(kernel, FourBits)
    parts = (kernel.packed_OGb, kernel.scales_OG, kernel.minima_OG)
    assert sum(part.nbytes for part in parts) * 6.4 == pytest.approx(4 * kernel.weight(torch.float32).numel())
    saved: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        kernel(torch.randn(3, 64, requires_grad=True))
    assert not saved


def test_a_model_on_blocks_is_saved_from_its_file(workshop: Path, tmp_path: Path) -> None:
    convert(workshop / "chat", tmp_path / "small.gguf", quantization="Q4_0")
    model = load(tmp_path / "small.gguf", quantize="blocks", device="cpu")
    assert model.arithmetic.startswith("int4 blocks (Q4_0)")
    with pytest.raises(OwnlmError, match="cannot be written; open it with quantize='none'"):
        to_checkpoint(model.decoder)
    saved = load(model.save(tmp_path / "saved"), dtype="float32")
    exact = load(tmp_path / "small.gguf", dtype="float32")
    assert saved.logits([1, 2, 3]).equal(exact.logits([1, 2, 3]))
    assert model.generate("a", max_tokens=4).token_ids


@pytest.mark.parametrize(
    ("wanted", "sets", "dtype", "blocks"),
    [
        ({}, ("AVX2",), torch.float32, True),
        ({}, ("AVX-512", "AVX-512-BF16"), torch.float32, True),
        ({}, ("BF16",), torch.float32, False),
        ({"dtype": "auto"}, ("BF16",), torch.bfloat16, False),  # no packed kernel, but products of bfloat16
        ({"dtype": "auto"}, ("AVX2",), torch.float32, True),
        ({"dtype": "auto", "quantize": "none"}, ("AVX2",), torch.float32, False),
        ({}, (), torch.float32, False),
        ({"dtype": "auto", "device": "cuda"}, ("AVX2",), torch.bfloat16, False),
        ({"dtype": "auto", "device": "mps"}, ("BF16",), torch.float32, False),
        ({"quantize": "blocks"}, (), torch.float32, True),
        ({"quantize": "none"}, ("AVX-512-BF16", "AVX-512"), torch.float32, False),
        ({"dtype": "float32"}, ("AVX2",), torch.float32, False),
        ({"dtype": "bfloat16", "quantize": "none"}, ("AVX2",), torch.bfloat16, False),
    ],
)
def test_what_is_computed_in(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: dict[str, Any],
    sets: tuple[str, ...],
    dtype: torch.dtype,
    blocks: bool,
) -> None:
    tensors = in_file(tmp_path / "x.gguf", "llama", "Q4_0").tensors
    monkeypatch.setattr(arithmetic, "instruction_sets", lambda: sets)
    monkeypatch.setattr(arithmetic, "has_fast_bfloat16", lambda: any("BF16" in name for name in sets))
    chosen = choose_arithmetic(tensors, **{"device": "cpu"} | wanted)
    assert chosen == Arithmetic(dtype=dtype, keep_blocks=blocks)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"dtype": "int8"}, "dtype is one of auto, float32, bfloat16, float16, got 'int8'"),
        ({"quantize": "4bit"}, "quantize is one of blocks, none, got '4bit'"),
        ({"quantize": "blocks"}, "needs a GGUF file with tensors of type Q4_0 or Q4_1"),
        ({"quantize": "blocks", "device": "cuda"}, "is for the processor, not cuda"),
        ({"quantize": "blocks", "dtype": "float32"}, "leave dtype out"),
    ],
)
def test_wishes_that_cannot_be_met(wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(OwnlmError, match=words):
        choose_arithmetic(tiny_checkpoint("llama").tensors, **{"device": "cpu"} | wanted)
