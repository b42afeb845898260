"""Every stored type decodes to what the gguf package decodes, bit by bit; what is written is what it encodes."""

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from gguf.quants import dequantize as package_decode
from gguf.quants import quantize as package_encode

from ownlm.artefact.gguf_types import KINDS, Kind
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.formats import gguf_quants
from ownlm.model.formats.gguf_quants import READABLE, dequantize, quantize
from ownlm.model.formats.gguf_write import FILE_TYPES

BY_NAME = {kind.name: kind for kind in KINDS.values()}
# Where a block's float16 scales lie; their upper byte is kept small, so that all are finite.
SCALES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ1_M": (48, 50, 52, 54)}
TWO_SCALES = {"Q4_1": (0, 2), "Q5_1": (0, 2), "TQ1_0": (52,), "TQ2_0": (64,), "MXFP4": (), "NVFP4": ()}


def random_blocks(kind: Kind, count: int) -> npt.NDArray[np.uint8]:
    generator = np.random.default_rng(count)
    if kind.block == 1:
        numbers = generator.standard_normal(count)
        if kind.name == "BF16":
            return package_encode(numbers.astype(np.float32), gguf.GGMLQuantizationType.BF16).reshape(count, 2)
        letter = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}[kind.name]
        return numbers.astype(letter).view(np.uint8).reshape(count, kind.bytes)
    blocks = generator.integers(0, 256, (count, kind.bytes), dtype=np.uint8)
    for place in (SCALES | TWO_SCALES).get(kind.name, (0,)):
        blocks[:, place + 1] &= 0x3B
    if kind.name == "MXFP4":
        blocks[:, 0] = 120 + blocks[:, 0] % 16
    if kind.name == "NVFP4":
        blocks[:, :4] &= 0x3F
    return blocks


@pytest.mark.parametrize("name", sorted(READABLE))
def test_it_decodes_as_the_package_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = BY_NAME[name]
    # Chunks that do not divide the tensor.
    monkeypatch.setattr(gguf_quants, "_CHUNK", 5 * kind.block)
    blocks = random_blocks(kind, 37)
    ours = dequantize(memoryview(blocks.tobytes()), kind, "t")
    if name == "F64":
        expected = blocks.view("<f8").astype(np.float32)
    else:
        expected = package_decode(blocks.reshape(1, -1), gguf.GGMLQuantizationType[name])
    assert ours.dtype == np.float32 and ours.flags.writeable and np.isfinite(expected).all()
    assert np.array_equal(ours, expected.reshape(-1))
    assert np.ptp(ours) > 0


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - READABLE))
def test_what_holds_no_weights_is_refused(name: str) -> None:
    with pytest.raises(OwnlmError, match=f"'t' is stored as {name}, which ownlm does not read"):
        dequantize(memoryview(bytes(BY_NAME[name].bytes)), BY_NAME[name], "t")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["F32", "F16", "F64", "Q8_0", "Q4_0", "Q4_1", "Q5_1", "Q4_K", "Q6_K", "IQ4_NL"])
def test_a_scale_that_is_no_number_is_refused(name: str, number: float) -> None:
    kind = BY_NAME[name]
    blocks = random_blocks(kind, 9)
    letter = {"F32": "<f4", "F64": "<f8"}.get(name, "<f2")
    place = (SCALES | TWO_SCALES).get(name, (0,))[-1]
    wrong = np.array([number], letter).view(np.uint8)
    blocks[7, place : place + len(wrong)] = wrong
    with pytest.raises(DamagedError, match="'t' holds NaN or infinite numbers"):
        dequantize(memoryview(blocks.tobytes()), kind, "t")


@pytest.mark.parametrize("name", FILE_TYPES)
@pytest.mark.parametrize("spread", [1.0, 1e-4, 300.0])
def test_it_encodes_as_the_package_does(name: str, spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_quants, "_CHUNK", 96)
    numbers = (np.random.default_rng(3).standard_normal((3, 5, 64)) * spread).astype(np.float32)
    numbers[1, 2, :32] = 0
    encoded = quantize(numbers, name, "t")
    expected = package_encode(numbers, gguf.GGMLQuantizationType[name]).view(np.uint8)
    assert encoded.shape == expected.shape and np.array_equal(encoded, expected)


def test_numbers_near_zero_make_no_infinite_scale() -> None:
    numbers = np.full((1, 32), 1e-42, np.float32)
    for name in FILE_TYPES:
        stored = memoryview(quantize(numbers, name, "t").tobytes())
        assert np.abs(dequantize(stored, BY_NAME[name], "t")).max() <= 1.1e-42, name
