"""A configuration that cannot be is refused in one line, before anything is allocated or read."""

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.errors import OwnlmError
from ownlm.model import Decoder, DecoderConfig
from ownlm.model.checkpoint import Checkpoint
from ownlm.model.families import FAMILIES, family_of
from ownlm.model.load import build_decoder
from ownlm.model.rope_scaling import RopeScaling
from tiny_models import tiny_config

REFERENCES = Path(__file__).parents[1] / "parity" / "references" / "families"
WRONG = [0, -1, 2**40, 10**300, True, "8", 8.0, float("nan"), float("inf"), None, [], {}]


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("name", ["num_attention_heads", "vocab_size", "num_hidden_layers", "head_dim"])
def test_sizes_are_whole_numbers_of_a_sane_size(name: str, value: Any) -> None:
    with pytest.raises(OwnlmError, match=f"^{name} must be a whole number from 1 to [0-9]+, got "):
        tiny_config(**{name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_theta": float("nan")}, "rope_theta must be a number"),
        ({"rope_theta": 0}, "rope_theta must be a number"),
        ({"rms_norm_eps": "1e-6"}, "rms_norm_eps must be a number"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings must be true or false"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish'.*it computes silu"),
        ({"norm": None}, "norm is None"),
        ({"num_key_value_heads": 3}, "multiple of"),
        ({"head_dim": 15}, "head_dim must be even"),
        ({"sliding_window": 0}, "sliding_window"),
        ({"layer_types": ("full_attention",)}, "names 1 layers"),
        ({"layer_types": ("chunked_attention",) * 2}, "chunked_attention"),
        ({"layer_types": ("sliding_attention",) * 2}, "no sliding_window"),
        ({"pre_norm": False}, "needs norms"),
        ({"parallel_residual": True, "post_norm": True}, "parallel residual"),
        ({"num_experts": 4, "num_experts_per_tok": 5, "moe_intermediate_size": 8}, "num_experts_per_tok"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor"),
        ({"attn_logit_softcapping": 0.0}, "attn_logit_softcapping"),
        ({"residual_multiplier": float("inf")}, "residual_multiplier"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(OwnlmError, match=message) as error:
        tiny_config(**change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rope_type": "mrope"}, "type is 'mrope'.*linear, dynamic, yarn, llama3, longrope"),
        ({"rope_type": "linear"}, "lacks factor"),
        ({"rope_type": "linear", "factor": float("nan")}, "factor must be a number"),
        ({"rope_type": "linear", "factor": True}, "factor must be a number"),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 0}, "original_max"),
        (
            {
                "rope_type": "llama3",
                "factor": 4.0,
                "low_freq_factor": 2.0,
                "high_freq_factor": 2,
                "original_max_position_embeddings": 8,
            },
            "must differ",
        ),
    ],
)
def test_scalings_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OwnlmError, match=message):
        RopeScaling(**given)


def test_longrope_needs_a_factor_for_each_pair() -> None:
    scaling = RopeScaling(
        rope_type="longrope",
        factor=2.0,
        original_max_position_embeddings=8,
        short_factor=(1.0,) * 7,
        long_factor=(1.0,) * 8,
    )
    with pytest.raises(OwnlmError, match="short_factor has 7 numbers, RoPE turns 8 pairs"):
        tiny_config(rope_scaling=scaling)


def test_the_defaults_are_the_shape_that_is_trained() -> None:
    config = tiny_config()
    assert config.model_type == "qwen3" and config.qk_norm == "head" and config.window(0) is None
    assert {name for name, _ in Decoder(config).named_parameters() if ".0." in name} == {
        f"model.layers.0.{part}.weight"
        for part in [
            "input_layernorm",
            "post_attention_layernorm",
            *(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")),
            *(f"mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")),
        ]
    }


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.one_of(st.integers(0, 5), st.text(max_size=3)), max_size=4),
    st.dictionaries(st.sampled_from(["rope_type", "factor", "full_attention", "x"]), st.integers(), max_size=3),
)


@pytest.mark.parametrize("name", sorted(FAMILIES))
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_no_field_of_any_kind_gives_more_than_one_line(name: str, data: st.DataObject) -> None:
    """Whatever a config.json holds: a configuration or an OwnlmError, and no other error."""
    fields = _fields(name)
    for changed in data.draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3)):
        fields[changed] = data.draw(values)
    fields["model_type"] = name
    try:
        assert isinstance(family_of(fields).read_config(fields), DecoderConfig)
    except OwnlmError as error:
        assert "\n" not in str(error) and len(str(error)) < 400


def _fields(name: str) -> dict[str, Any]:
    folder = "gemma3_text" if name == "gemma3" else name
    fields: dict[str, Any] = json.loads((REFERENCES / folder / "config.json").read_text(encoding="utf-8"))
    extra = {"rope_scaling": None, "partial_rotary_factor": None, "original_max_position_embeddings": None}
    return {**extra, **fields, **({"text_config": dict(fields)} if name == "gemma3" else {})}


@pytest.mark.parametrize(
    "change",
    [
        {"num_attention_heads": 0},
        {"num_hidden_layers": 2047},
        {"vocab_size": 2**24, "hidden_size": 2**18, "intermediate_size": 2**20},
        {"hidden_size": 10**30},
        {"num_experts": 4096},
    ],
)
def test_a_config_that_claims_too_much_costs_neither_time_nor_memory(change: dict[str, Any]) -> None:
    fields = {**_fields("qwen3_moe"), "head_dim": 8, **change}
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(OwnlmError):
        build_decoder(Checkpoint(fields=fields, tensors={}))
    assert time.perf_counter() - began < 2
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
