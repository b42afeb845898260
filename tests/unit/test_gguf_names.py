"""Names, layouts and RoPE factors between GGUF and Hugging Face, held against the gguf package's own map."""

import math
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gguf_bytes import ARRAY, BOOL, F32, I32, STRING, U32, file, key, tensor
from ownlm.artefact.gguf_header import read_gguf
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.checkpoint import Checkpoint
from ownlm.model.formats.gguf_architectures import architecture_for
from ownlm.model.formats.gguf_checkpoint import gguf_checkpoint
from ownlm.model.formats.gguf_keys import Keys, short
from ownlm.model.formats.gguf_layouts import Heads, Layout, shape_in_hf, to_gguf, to_hf
from ownlm.model.formats.gguf_rope import LLAMA3, LONG, SHORT, read_rope_scaling, write_rope_scaling
from ownlm.model.formats.gguf_write import write_gguf
from tiny_checkpoints import MODEL_TYPES, tiny_checkpoint

HEADS = Heads(queries=4, keys=2)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_names_are_the_packages(model_type: str) -> None:
    architecture = architecture_for(model_type)
    number = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.name)
    names = gguf.get_tensor_name_map(number, 5)
    for rule in architecture.rules:
        theirs = rule.hf.format(3, expert="0").replace(".experts.0.", ".experts.")
        assert names.get_name(theirs) == rule.gguf.format(3), rule.hf


@pytest.mark.parametrize("layout", [layout for layout in Layout if layout is not Layout.EXPERTS])
@pytest.mark.parametrize("shape", [(48, 6), (48,)])
def test_layouts_undo_one_another(layout: Layout, shape: tuple[int, ...]) -> None:
    if layout is Layout.TRANSPOSED and len(shape) == 1:
        return
    numbers = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    kept = numbers.copy()
    stored = to_gguf(numbers, layout, HEADS)
    assert np.array_equal(numbers, kept)
    assert shape_in_hf(stored.shape, layout, HEADS, "t") == shape
    back = to_hf(stored.copy(), layout, HEADS)
    assert np.allclose(back, numbers, atol=1e-6) and back.flags.c_contiguous
    if layout is not Layout.PLAIN:
        assert stored.shape != shape or not np.array_equal(stored, numbers)


def test_layouts_as_drawn() -> None:
    rows = np.arange(12, dtype=np.float32)
    heads = Heads(queries=2, keys=1)
    assert to_gguf(rows, Layout.QUERY_ROWS, heads).tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
    assert to_gguf(rows, Layout.KEY_ROWS, heads).tolist() == [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]
    # q q k k v v of two heads, from q k v q k v.
    assert to_gguf(rows, Layout.QKV_BY_HEAD, heads).tolist() == [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]


@pytest.mark.parametrize("layout", [Layout.QUERY_ROWS, Layout.KEY_ROWS, Layout.QKV_BY_HEAD])
def test_rows_that_do_not_fit_the_heads_are_refused(layout: Layout) -> None:
    with pytest.raises(DamagedError, match="'t' has 50 rows, no multiple of"):
        shape_in_hf((50, 4), layout, Heads(queries=4, keys=8), "t")
    with pytest.raises(DamagedError, match="2 dimensions, not 3"):
        shape_in_hf((50, 4), Layout.EXPERTS, HEADS, "t")


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_short_numbers_are_the_same_float32(value: float) -> None:
    assert np.float32(short(value)) == np.float32(value)


def test_short_numbers_are_what_was_meant() -> None:
    for meant in (1e-5, 1e-6, 0.22, 8.0, 500_000.0, 0.0078125, 1_000_000.0):
        assert short(float(np.float32(meant))) == meant


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
FACTORS = {"short_factor": [1.0 + n / 16 for n in range(8)], "long_factor": [1.0 + n for n in range(8)]}
LONGROPE = {"rope_type": "longrope", **FACTORS, "original_max_position_embeddings": 4096}
SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 2.5},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
    "yarn, its own attention": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 32768,
        "attention_factor": 1.25,
    },
    "llama 3.2": LLAMA3_ROPE,
    "llama 3.1": {**LLAMA3_ROPE, "factor": 8.0},
    "another llama 3": {
        **LLAMA3_ROPE,
        "low_freq_factor": 2.0,
        "high_freq_factor": 8.0,
        "original_max_position_embeddings": 4096,
    },
    "longrope": LONGROPE,
    "longrope, its own attention": {**LONGROPE, "attention_factor": 1.5},
}


def keys_of(metadata: dict[str, Any]) -> Keys:
    return Keys(Path("x.gguf"), MappingProxyType({f"llama.{name}": value for name, value in metadata.items()}), "llama")


@pytest.mark.parametrize("name", SCALINGS)
def test_rope_scalings_read_as_they_were_written(name: str) -> None:
    scaling = SCALINGS[name]
    turned, context = (16 if "longrope" in name else 64), 131072
    sizes = {"context": context, "turned": turned, "theta": 500_000.0}
    written, tables = write_rope_scaling(scaling, **sizes, tensors=True, name="llama")
    stored = {name: np.array(table, np.float32).tolist() for name, table in tables.items()}
    keys = keys_of({"context_length": context, **written})
    assert read_rope_scaling(keys, stored.get, turned=turned, theta=500_000.0) == scaling


@pytest.mark.parametrize("original", [True, False])
def test_llama_3s_own_files_say_the_factors_alone(original: bool) -> None:
    keys, tables = write_rope_scaling(LLAMA3_ROPE, context=131072, turned=64, theta=5e5, tensors=True, name="llama")
    if not original:
        keys = {}
    found = read_rope_scaling(keys_of({"context_length": 131072, **keys}), tables.get, turned=64, theta=5e5)
    assert found == LLAMA3_ROPE


def test_llama_3s_factors_by_hand() -> None:
    """Channel pairs of a head of 64 at theta 500,000: the shortest wave stays, the longest is divided by 32."""
    table = write_rope_scaling(LLAMA3_ROPE, context=131072, turned=64, theta=5e5, tensors=True, name="llama")[1][LLAMA3]
    assert table[0] == 1 and table[-1] == 32 and table == sorted(table)
    pair = 16
    wavelength = 2 * math.pi * 5e5 ** (2 * pair / 64)
    smooth = (8192 / wavelength - 1) / 3
    assert 0 < smooth < 1 and math.isclose(table[pair], 1 / ((1 - smooth) / 32 + smooth))


def test_other_factors_become_longropes() -> None:
    table = [1.0, 1.5, 1.25, 3.0]
    keys = keys_of({"context_length": 1024})
    found = read_rope_scaling(keys, {LLAMA3: table}.get, turned=8, theta=1e4)
    assert found == {
        "rope_type": "longrope",
        "short_factor": table,
        "long_factor": table,
        "original_max_position_embeddings": 1024,
        "attention_factor": 1.0,
    }


def test_wrong_tables_of_factors_are_refused() -> None:
    keys = keys_of({"context_length": 1024})
    for tables in ({LLAMA3: [1.0] * 3}, {LLAMA3: [1.0, 1.0, 1.0, float("nan")]}, {LONG: [1.0] * 4, SHORT: [0.0] * 4}):
        with pytest.raises(DamagedError, match="does not fit the 4 pairs"):
            read_rope_scaling(keys, tables.get, turned=8, theta=1e4)
    with pytest.raises(DamagedError, match="one of two tables"):
        read_rope_scaling(keys, {LONG: [1.0] * 4}.get, turned=8, theta=1e4)
    with pytest.raises(OwnlmError, match="scales RoPE by 'new'"):
        read_rope_scaling(
            keys_of({"context_length": 8, "rope.scaling.type": "new", "rope.scaling.factor": 2.0}),
            {}.get,
            turned=8,
            theta=1e4,
        )


# What a file of one tiny llama layer says, and what changes in it make of it.
KEYS = {
    "general.architecture": (STRING, "llama"),
    "llama.context_length": (U32, 64),
    "llama.embedding_length": (U32, 8),
    "llama.block_count": (U32, 1),
    "llama.feed_forward_length": (U32, 8),
    "llama.attention.head_count": (U32, 2),
    "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
}


def opened(folder: Path, changes: dict[str, Any], names: tuple[str, ...] = (), rows: int = 8) -> Checkpoint:
    keys = [key(name, *content) for name, content in {**KEYS, **changes}.items() if content is not None]
    names = ("token_embd.weight", "blk.0.attn_q.weight", *names)
    tensors = [tensor(name, (8, rows), 0, 32 * rows * place) for place, name in enumerate(names)]
    (folder / "x.gguf").write_bytes(file(keys=keys, tensors=tensors, data=bytes(32 * rows * len(names))))
    return gguf_checkpoint(read_gguf(folder / "x.gguf"))


def test_a_small_file(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path, {"tokenizer.ggml.eos_token_id": (U32, 5)}, ("output.weight",))
    assert checkpoint.fields["num_key_value_heads"] == 2 and checkpoint.fields["head_dim"] == 4
    assert checkpoint.fields["vocab_size"] == 8 and checkpoint.fields["tie_word_embeddings"] is False
    assert checkpoint.fields["eos_token_id"] == 5 and checkpoint.fields["bos_token_id"] is None
    assert checkpoint.fields["rope_parameters"] == {"rope_type": "default", "rope_theta": 10_000.0}
    assert checkpoint.tensors["lm_head.weight"].read().abs().max() == 0
    alike = opened(tmp_path, {"llama.attention.head_count_kv": (ARRAY, (I32, [2, 2]))})
    assert alike.fields["num_key_value_heads"] == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"general.architecture": (STRING, "bert")},
            "of architecture 'bert', which ownlm does not read; it reads: gemma2",
        ),
        ({"general.architecture": None}, "of architecture None"),
        ({"general.architecture": (U32, 3)}, "of architecture 3"),
        ({"llama.block_count": None}, r"lacks llama.block_count"),
        ({"llama.attention.head_count": (U32, 0)}, r"head_count is 0, no count"),
        ({"llama.attention.head_count": (STRING, "x")}, "is 'x', no count"),
        ({"llama.attention.head_count": (BOOL, True)}, "is True, no count"),
        ({"llama.attention.head_count": (ARRAY, (I32, [2, 1]))}, r"is \[2, 1\], no count"),
        ({"llama.attention.head_count": (U32, 3)}, "width 8 is no multiple of its 3 heads"),
        ({"llama.attention.layer_norm_rms_epsilon": (F32, float("nan"))}, "is nan, no number"),
        ({"llama.block_count": (U32, 1 << 30)}, "claims 1073741824 layers, and has 2 tensors"),
        ({"llama.rope.dimension_count": (U32, 6)}, "of its heads' 4 channels 6 turn"),
        ({"llama.attention.value_length": (U32, 8)}, "values of another size than keys"),
        ({"llama.expert_count": (U32, 8)}, "a llama of experts"),
        ({"split.count": (U32, 3)}, "is one of 3 parts; join them"),
    ],
)
def test_metadata_that_cannot_be(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OwnlmError, match=words):
        opened(tmp_path, changes)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("blk.1.attn_q.weight", "'blk.1.attn_q.weight', which a llama of 1 layers does not have"),
        ("blk.0.attn_x.weight", "does not have"),
        ("blk.00.attn_k.weight", "does not have"),
        ("output.scale", "does not have"),
        ("x", "does not have"),
        ("rope_freqs.weight", "does not fit the 2 pairs"),
    ],
)
def test_tensors_that_cannot_be(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(DamagedError, match=words):
        opened(tmp_path, {}, (name,))


def test_a_file_without_an_embedding(tmp_path: Path) -> None:
    keys = [key(name, *content) for name, content in KEYS.items()]
    (tmp_path / "x.gguf").write_bytes(file(keys=keys))
    with pytest.raises(DamagedError, match=r"lacks the tensor token_embd.weight"):
        gguf_checkpoint(read_gguf(tmp_path / "x.gguf"))


def test_experts_that_do_not_match(tmp_path: Path) -> None:
    write_gguf(tmp_path / "x.gguf", tiny_checkpoint("qwen3_moe"), quantization="F32")
    content = (tmp_path / "x.gguf").read_bytes()
    name = b"qwen3moe.expert_count"
    place = content.index(name) + len(name) + 4
    for count in (3, 1 << 20):
        (tmp_path / "y.gguf").write_bytes(content[:place] + count.to_bytes(4, "little") + content[place + 4 :])
        with pytest.raises(DamagedError, match=f"3 experts, and 'blk|claims {count} experts"):
            gguf_checkpoint(read_gguf(tmp_path / "y.gguf"))
