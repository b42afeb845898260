"""A Hugging Face folder: shards, what an index may name, and files that are not what they should be."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.formats import read_checkpoint, write_checkpoint
from ownlm.model.load import build_decoder, read_decoder, to_checkpoint, write_decoder
from tiny_models import random_decoder


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    files = write_checkpoint(folder, to_checkpoint(random_decoder()), shard_bytes=40_000)
    assert files[2] == "model.safetensors.index.json" and len(files) > 5
    return folder


def reindexed(folder: Path, **change: Any) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"].update({name.replace("__", "."): file for name, file in change.items()})
    path.write_text(json.dumps(index))


def test_shards_hold_what_the_index_says_and_no_more_than_they_may(sharded: Path) -> None:
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    held = {name: file.name for file in sharded.glob("*.safetensors") for name in load_file(file)}
    assert held == index["weight_map"]
    sizes = [sum(t.nbytes for t in load_file(file).values()) for file in sorted(sharded.glob("*.safetensors"))]
    assert sum(sizes) == index["metadata"]["total_size"]
    # A tensor that is larger than a shard has one of its own.
    assert all(
        size <= 40_000 or len(load_file(f)) == 1 for f, size in zip(sorted(sharded.glob("*.s*s")), sizes, strict=True)
    )
    whole, again = random_decoder().eval(), read_decoder(sharded)
    assert all(torch.equal(one, two) for one, two in zip(whole.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    "name",
    [
        "../other/model.safetensors",
        "/etc/model.safetensors",
        "..",
        "",
        "a/b.safetensors",
        "a\\b.safetensors",
        "x.bin",
        3,
        None,
    ],
)
def test_an_index_names_files_beside_it_alone(sharded: Path, name: Any) -> None:
    other = sharded.parent / "other"
    other.mkdir()
    shutil.copy(next(sharded.glob("*.safetensors")), other / "model.safetensors")
    reindexed(sharded, model__norm__weight=name)
    with pytest.raises(DamagedError, match="which is no safetensors file beside it"):
        read_checkpoint(sharded)


def test_shards_that_the_index_does_not_describe_are_refused(sharded: Path) -> None:
    first = sorted(sharded.glob("*.safetensors"))[0]
    reindexed(sharded, invented=first.name)
    with pytest.raises(DamagedError, match="disagree about invented"):
        read_checkpoint(sharded)
    reindexed(sharded, invented="model-99999-of-99999.safetensors")
    with pytest.raises(DamagedError, match="lacks model-99999"):
        read_checkpoint(sharded)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"weight_map": []}', '{"weight_map": {}}', "[" * 100_000, '{"a": ' * 50_000]
)
def test_an_index_that_is_none_is_refused(sharded: Path, text: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(text)
    with pytest.raises(DamagedError, match=r"index\.json"):
        read_checkpoint(sharded)


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1])
def test_a_file_cut_short_is_damaged(tmp_path: Path, keep: int) -> None:
    write_decoder(tmp_path, random_decoder(), eos_ids=[1], pad_id=2)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DamagedError, match=r"model\.safetensors is damaged"):
        read_checkpoint(tmp_path)


def header(tmp_path: Path, text: str, *, length: int | None = None, body: bytes = b"\0" * 64) -> Path:
    write_decoder(tmp_path, random_decoder(), eos_ids=[1], pad_id=2)
    data = text.encode()
    size = len(data) if length is None else length
    (tmp_path / "model.safetensors").write_bytes(size.to_bytes(8, "little") + data + body)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("{}", 2**63),
        ("{}", 2**40),
        ('{"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 1000000000000]}}', None),
        ('{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 64]}}', None),
        ('{"a": {"dtype": "F32", "shape": [16], "data_offsets": [64, 0]}}', None),
        (
            '{"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]},'
            ' "b": {"dtype": "F32", "shape": [8], "data_offsets": [16, 48]}}',
            None,
        ),
        ('{"a": {"dtype": "F99", "shape": [16], "data_offsets": [0, 64]}}', None),
        ('{"a": 3}', None),
        ("not json", None),
    ],
    ids=["2^63", "1 TB", "past the end", "huge shape", "backwards", "overlap", "type", "kind", "json"],
)
def test_headers_that_lie_are_refused(tmp_path: Path, text: str, length: int | None) -> None:
    with pytest.raises(DamagedError, match=r"model\.safetensors is damaged"):
        read_checkpoint(header(tmp_path, text, length=length))


def test_types_that_are_not_read_are_named(tmp_path: Path) -> None:
    write_decoder(tmp_path, random_decoder(), eos_ids=[1], pad_id=2)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.float8_e4m3fn)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(OwnlmError, match=r"model\.norm\.weight is stored as F8_E4M3.*F32, BF16, F16"):
        read_decoder(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_types_that_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    model = random_decoder().to(dtype)
    write_decoder(tmp_path, model, eos_ids=[1], pad_id=2)
    fields = json.loads((tmp_path / "config.json").read_text())
    assert fields["dtype"] == fields["torch_dtype"] == str(dtype).removeprefix("torch.")
    exact, same = read_decoder(tmp_path), read_decoder(tmp_path, dtype=dtype)
    for kept, wide, again in zip(model.parameters(), exact.parameters(), same.parameters(), strict=True):
        # Norms are never read below float32.
        assert torch.equal(kept.float(), again.float()) and again.dtype in (dtype, torch.float32)
        assert torch.equal(kept.float(), wide) and wide.dtype == torch.float32


def test_parameters_lie_in_memory_of_their_own() -> None:
    """Parts of a fused tensor do not share one, and nothing hangs on the file, which may be replaced."""
    folder = Path(__file__).parents[1] / "parity" / "references" / "families" / "phi3"
    model = read_decoder(folder)
    storages = [parameter.untyped_storage().data_ptr() for parameter in model.parameters()]
    assert len(set(storages)) == len(storages)
    assert all(p.untyped_storage().nbytes() == p.nbytes and p.is_contiguous() for p in model.parameters())
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in model.parameters())


@pytest.mark.parametrize("number", [3e38, float("inf"), float("nan")])
def test_large_numbers_are_no_infinite_ones(sharded: Path, number: float) -> None:
    """Their sum may be."""
    stored = read_checkpoint(sharded)
    name = "model.norm.weight"
    tensor = torch.full(stored.tensors[name].shape, number)
    changed = {**stored.tensors, name: replace(stored.tensors[name], read=lambda: tensor)}
    if number == 3e38:
        assert torch.equal(build_decoder(replace(stored, tensors=changed)).model.norm.weight, tensor)
        return
    with pytest.raises(DamagedError, match=r"model\.norm\.weight holds numbers that are not finite"):
        build_decoder(replace(stored, tensors=changed))


def test_nothing_is_read_before_it_is_asked_for(sharded: Path) -> None:
    """Each stored tensor is read once, when its parameters are set."""
    stored = read_checkpoint(sharded)
    asked: list[str] = []

    def counting(name: str) -> Any:
        def read() -> torch.Tensor:
            asked.append(name)
            return stored.tensors[name].read()

        return replace(stored.tensors[name], read=read)

    build_decoder(replace(stored, tensors={name: counting(name) for name in stored.tensors}))
    assert sorted(asked) == sorted(stored.tensors)
