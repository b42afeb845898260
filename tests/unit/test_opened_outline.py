"""A model that is not loaded: what it says it will take is what it takes, and changed files are not loaded."""

import os
from pathlib import Path

import pytest
import torch

from ownlm.engine import EngineConfig
from ownlm.errors import OwnlmError
from ownlm.model import Decoder
from ownlm.opened import convert, load, read_embedder_outline, read_outline
from serving import wide_copy

BERT = Path(__file__).parents[1] / "parity" / "references" / "bert"
CONFIG = EngineConfig(max_sequences=4, cache_tokens=512)


def held(decoder: Decoder) -> int:
    """Of all numbers that it has, each once."""
    found: dict[int, int] = {}

    def see(value: object) -> None:
        if isinstance(value, torch.Tensor) and value.device.type != "meta":
            found[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif hasattr(value, "weight"):
            see(value.weight)

    for parameter in decoder.parameters():
        see(parameter)
    for projection in decoder.projections:
        for value in vars(projection.kernel).values():
            see(value)
    return sum(found.values())


@pytest.mark.parametrize("kind", ["folder", "Q4_1", "Q8_0"])
def test_the_estimate_is_what_the_model_takes(workshop: Path, tmp_path: Path, kind: str) -> None:
    place = workshop / "chat"
    if kind != "folder":
        place = tmp_path / "chat.gguf"
        convert(workshop / "chat", place, quantization=kind)
    outline = read_outline(place, engine=CONFIG, cache_room=1)
    model = outline.load()
    assert held(model.decoder) == pytest.approx(outline.weight_bytes, rel=0.01)
    cache = model.engine.runner.cache
    assert (cache.keys.nbytes + cache.values.nbytes, model.engine.context) == (outline.cache_bytes, outline.context)
    assert model.arithmetic == load(place, dtype="auto").arithmetic


def test_an_embedding_model_tells_its_size_and_loads_alike(tmp_path: Path) -> None:
    outline = read_embedder_outline(BERT / "embedder")
    loaded = outline.load()
    assert sum(one.nbytes for one in loaded.bert.parameters()) == outline.weight_bytes
    assert outline.embedder.framed("The cat") == loaded.framed("The cat") and outline.embedder.size == loaded.size


def test_what_was_changed_meanwhile_is_not_loaded(workshop: Path, tmp_path: Path) -> None:
    folder = wide_copy(workshop / "base", tmp_path / "base")
    outline = read_outline(folder, engine=CONFIG, cache_room=1)
    (folder / "README.md").write_text("Edited.")
    outline.load()
    outline.load()
    os.utime(folder / "model.safetensors", (1, 1))
    with pytest.raises(OwnlmError, match="was changed"):
        outline.load()
    (folder / "model.safetensors").unlink()
    with pytest.raises(OwnlmError):
        outline.load()


def test_an_adapter_for_another_model_is_refused_before_anything_is_loaded(workshop: Path, tmp_path: Path) -> None:
    outline = read_outline(workshop / "base", engine=CONFIG, cache_room=1)
    with pytest.raises(OwnlmError, match="no adapter"):
        outline.check_adapter(tmp_path)
