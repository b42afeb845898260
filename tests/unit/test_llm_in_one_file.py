"""The one-file model learns: twenty steps, and the loss falls."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "llm_in_one_file.py"
TEXT = "the cat sat on the mat, and the dog sat on the log. " * 40


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("llm_in_one_file", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small a model only waits for its second thread on a busy machine
    yield module
    torch.set_num_threads(threads)
    del sys.modules[spec.name]


def small(example: ModuleType, **changes: object) -> object:
    sizes: dict[str, object] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"head_dim": 8, "max_position_embeddings": 32, "vocab_size": len(set(TEXT))}
    return example.Config(**(sizes | changes))


def test_twenty_steps_lower_the_loss(example: ModuleType) -> None:
    model, alphabet, losses = example.train(TEXT, steps=20, config=small(example))
    assert len(losses) == 20
    assert sum(losses[-3:]) / 3 < losses[0] - 0.5
    written = example.sample(model, alphabet, "the ", 12)
    assert written.startswith("the ") and len(written) == 16


def test_no_position_sees_what_comes_later(example: ModuleType) -> None:
    torch.manual_seed(0)
    model = example.LanguageModel(small(example))
    ids = torch.randint(len(set(TEXT)), (1, 12))
    changed = ids.clone()
    changed[0, 8:] = (changed[0, 8:] + 1) % len(set(TEXT))
    torch.testing.assert_close(model(ids)[0, :8], model(changed)[0, :8])


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_have_the_names_that_hugging_face_gives_them(example: ModuleType, tied: bool) -> None:
    state = example.LanguageModel(small(example, num_hidden_layers=1, tie_word_embeddings=tied)).state_dict()
    block = "model.layers.0."
    assert set(state) == {
        "model.embed_tokens.weight",
        "model.norm.weight",
        "lm_head.weight",
        *(f"{block}self_attn.{name}.weight" for name in ("q_proj", "k_proj", "v_proj", "o_proj")),
        *(f"{block}self_attn.{name}.weight" for name in ("q_norm", "k_norm")),
        *(f"{block}mlp.{name}.weight" for name in ("gate_proj", "up_proj", "down_proj")),
        *(f"{block}{name}.weight" for name in ("input_layernorm", "post_attention_layernorm")),
    }
    assert torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"]) is tied


def test_the_file_stays_under_two_hundred_lines() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 200
