"""The BERT family: what a folder may hold, how texts are framed and cut, and what is refused; numbers are in parity."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import ownlm
from ownlm.errors import OwnlmError
from ownlm.model.bert_config import read_bert_config
from ownlm.model.pooling import pool
from ownlm.opened.embedder import Embedder, groups

BERT = Path(__file__).parents[1] / "parity" / "references" / "bert"


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return ownlm.load_embedder(BERT / "embedder")


@pytest.fixture(scope="module")
def ranker() -> Embedder:
    return ownlm.load_embedder(BERT / "cross_encoder")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BERT / "embedder", tmp_path / "copy"))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def test_who_shares_the_batch_changes_nothing(embedder: Embedder) -> None:
    texts = ["the cat", "seven small dogs ran " * 4, "x", *["where is the mat?"] * 70]
    together = embedder.embed(texts)
    alone = torch.cat([embedder.embed([text]) for text in texts[:4]])
    assert together.shape == (len(texts), embedder.size) and float((together[:4] - alone).abs().max()) < 1e-6
    assert torch.allclose(together.norm(dim=-1), torch.ones(len(texts)), atol=1e-6)


def test_groups_hold_everything_once() -> None:
    lengths = [5, 100, 1, 7, 60, 5, 5]
    found = list(groups(lengths, tokens=64, texts=3))
    assert sorted(place for group in found for place in group) == list(range(len(lengths)))
    for group in found:
        assert len(group) == 1 or (len(group) <= 3 and len(group) * max(lengths[place] for place in group) <= 64)


def test_a_text_is_framed_and_cannot_write_the_frame(embedder: Embedder) -> None:
    framed = embedder.framed("the [SEP]", "cat")
    special = embedder.tokenizer.special
    assert [framed.ids.count(special[name]) for name in ("[CLS]", "[SEP]")] == [1, 2]
    assert framed.types == sorted(framed.types) and framed.types[-2:] == [1, 1]
    assert embedder.tokenizer.decode(embedder.tokenizer.encode("the dogs ran")) == "the dogs ran"


def test_too_long_is_refused_or_cut(embedder: Embedder) -> None:
    assert embedder.context == 48
    embedder.framed("cat " * 46)
    with pytest.raises(OwnlmError, match=r"has 47 tokens, and .* reads 46"):
        embedder.framed("cat " * 47)
    assert embedder.framed("cat " * 470, cut=True) == embedder.framed("cat " * 46)
    pair = embedder.framed("dog", "cat " * 470, cut=True)
    assert len(pair.ids) == 48 and pair == embedder.framed("dog", "cat " * 44)
    assert len(embedder.framed("cat " * 470, "dog " * 470, cut=True).ids) == 48


def test_each_kind_of_model_does_its_own(embedder: Embedder, ranker: Embedder) -> None:
    query_E, document_E = embedder.embed(["where?", "here"])
    assert embedder.rank("where?", ["here"]) == pytest.approx([float(query_E @ document_E)])
    assert embedder.rank("where?", []) == ranker.rank("where?", []) == []
    with pytest.raises(OwnlmError, match="cross-encoder"):
        ranker.embed(["x"])
    with pytest.raises(OwnlmError, match="no text"):
        embedder.embed([])


def test_pooling() -> None:
    hidden_BTE = torch.tensor([[[3.0, 4.0], [1.0, 0.0], [9.0, 9.0]]])
    real_BT = torch.tensor([[True, True, False]])
    for pooling, expected in (("mean", [4.0, 4.0]), ("cls", [3.0, 4.0]), ("max", [3.0, 4.0])):
        direction = torch.nn.functional.normalize(torch.tensor([expected]), dim=-1)
        assert torch.allclose(pool(hidden_BTE, real_BT, pooling), direction)  # type: ignore[arg-type]


@pytest.mark.parametrize(("flag", "kind"), [("cls_token", "cls"), ("max_tokens", "max")])
def test_the_folder_says_how_it_is_pooled(folder: Path, flag: str, kind: str) -> None:
    edit(folder / "1_Pooling" / "config.json", lambda _: {f"pooling_mode_{flag}": True})
    assert ownlm.load_embedder(folder).pooling == kind
    edit(folder / "1_Pooling" / "config.json", lambda _: {"pooling_mode": kind})
    assert ownlm.load_embedder(folder).pooling == kind


def test_older_names_of_tensors_are_read(folder: Path, embedder: Embedder) -> None:
    path = folder / "model.safetensors"
    old = {f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma"): one for name, one in load_file(path).items()}
    old["bert.embeddings.position_ids"] = torch.arange(64)
    old["cls.predictions.bias"] = torch.zeros(80)
    save_file(old, path)
    assert torch.equal(ownlm.load_embedder(folder).embed(["the cat"]), embedder.embed(["the cat"]))


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("config.json", {"model_type": "roberta"}, "does not open as an embedding model"),
        ("config.json", {"position_embedding_type": "relative_key"}, "does not compute"),
        ("config.json", {"is_decoder": True}, "is_decoder"),
        ("config.json", {"hidden_act": "mish"}, "hidden_act"),
        ("config.json", {"num_attention_heads": 5}, "multiple of"),
        ("config.json", {"num_hidden_layers": 10**9}, "layers"),
        ("config.json", {"num_hidden_layers": 3}, "missing"),
        ("config.json", {"hidden_size": 32}, "has shape"),
        ("config.json", {"vocab_size": 8}, "tokens and the model"),
        ("config.json", {"architectures": ["BertForSequenceClassification"]}, "2 classes"),
        ("config.json", {"matryoshka_dimensions": [8, 99]}, "matryoshka"),
        ("sentence_bert_config.json", {"max_seq_length": "x"}, "max_seq_length"),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True}, "cls and mean"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": False}, "only mean, cls and max"),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "lasttoken"),
    ],
)
def test_what_is_not_computed_is_refused(folder: Path, file: str, change: dict[str, Any], told: str) -> None:
    edit(folder / file, lambda fields: fields | change)
    with pytest.raises(OwnlmError, match=told):
        ownlm.load_embedder(folder)


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "2_Dense"}], "Dense"),
        ([{"type": "x.Pooling", "path": "../elsewhere"}], "beside it"),
        ([{"type": "x.Pooling", "path": ".."}], "beside it"),
        ([{"type": "x.Pooling", "path": "3_Pooling"}], "lacks 3_Pooling"),
        ([3], "no list of modules"),
        ({}, "one Pooling"),
    ],
)
def test_modules_that_are_not_understood_are_refused(folder: Path, steps: Any, told: str) -> None:
    edit(folder / "modules.json", lambda _: steps)
    with pytest.raises(OwnlmError, match=told):
        ownlm.load_embedder(folder)


def test_damaged_weights_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.1.output.dense.weight"][0, 0] = torch.nan
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(OwnlmError, match="not finite"):
        ownlm.load_embedder(folder)


def test_what_a_model_may_be_cut_to_is_its_makers_word() -> None:
    fields = {"model_type": "bert", "hidden_size": 12}
    assert read_bert_config(fields).dimensions == ()
    assert read_bert_config({**fields, "matryoshka_dimensions": [8, 4]}).dimensions == (4, 8, 12)
    assert 5 in read_bert_config({**fields, "is_matryoshka": True}).dimensions
    identity = {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}
    assert not read_bert_config({**fields, **identity}).sigmoid


def test_load_says_what_it_is() -> None:
    with pytest.raises(OwnlmError, match=r"embedding model.*ownlm\.load_embedder") as refused:
        ownlm.load(BERT / "embedder")
    assert "\n" not in str(refused.value)
