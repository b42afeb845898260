"""`ownlm convert`: what is written says what its source says, or is not left behind."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.checkpoint import Checkpoint
from ownlm.opened import convert, describe, load, read_files, tensor_rows
from ownlm.opened.convert import SAMPLE


@pytest.mark.parametrize("quantization", ["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"])
def test_a_gguf_file_says_what_the_folder_says(workshop: Path, tmp_path: Path, quantization: str) -> None:
    done = convert(workshop / "chat", tmp_path / "mine.gguf", quantization=quantization)
    assert done.lossless is (quantization == "f32")
    assert done.stored_as[quantization.upper()] > 0
    before, after = load(workshop / "chat"), load(done.path, dtype="float32")
    ids = before.tokenizer.encode(SAMPLE)[:60]
    difference = float((before.logits(ids) - after.logits(ids)).abs().max())
    assert difference <= done.largest_difference + 1e-6 if quantization != "f32" else difference < 1e-4
    messages = [{"role": "user", "content": "Who are <|im_end|> you?"}]
    assert after.chat_prompt(messages) == before.chat_prompt(messages)
    assert set(after.end_ids) >= set(before.end_ids)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.gguf"]


def test_there_and_back_is_the_same_model(workshop: Path, tmp_path: Path) -> None:
    convert(workshop / "chat", tmp_path / "mine.gguf")
    back = convert(tmp_path / "mine.gguf", tmp_path / "back")
    assert back.lossless and back.largest_difference == 0
    before, after = load(workshop / "chat"), load(tmp_path / "back")
    for name, parameter in before.decoder.state_dict().items():
        assert torch.equal(parameter, after.decoder.state_dict()[name]), name
    question = [{"role": "user", "content": "What does len do?"}]
    settings = {"temperature": 0, "max_tokens": 12}
    assert after.chat(question, **settings).text == before.chat(question, **settings).text
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["eos_token_id"] == before.end_ids[0]
    assert after.tokenizer.prompt_ids(SAMPLE) == before.tokenizer.prompt_ids(SAMPLE)


def test_a_folder_in_half_precision_is_half_the_size(workshop: Path, tmp_path: Path) -> None:
    whole = convert(workshop / "base", tmp_path / "whole")
    half = convert(workshop / "base", tmp_path / "half", quantization="bf16")
    assert half.stored_as == {"BF16": sum(whole.stored_as.values())}
    assert (tmp_path / "half" / "model.safetensors").stat().st_size < 0.6 * (
        tmp_path / "whole" / "model.safetensors"
    ).stat().st_size
    assert convert(tmp_path / "half", tmp_path / "again").stored_as == half.stored_as


def test_a_file_that_differs_is_not_left_behind(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ownlm.opened import write

    def turned(path: Path, checkpoint: Checkpoint, **more: object) -> None:
        name = "model.layers.0.mlp.down_proj.weight"
        tensor = checkpoint.tensors[name]
        wrong = replace(tensor, read=lambda: tensor.read().flip(0))
        honest(path, replace(checkpoint, tensors={**checkpoint.tensors, name: wrong}), **more)  # type: ignore[arg-type]

    honest = write.write_gguf
    monkeypatch.setattr(write, "write_gguf", turned)
    with pytest.raises(OwnlmError, match=r"down_proj.*nothing\s+was kept"):
        convert(workshop / "chat", tmp_path / "mine.gguf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "quantization", "said"),
    [
        ("folder", "q8_0", "F32, F16, BF16.*ends in .gguf"),
        ("mine.gguf", "q3_k", "quantization is one of"),
        ("taken.gguf", None, "exists already"),
    ],
)
def test_refusals(workshop: Path, tmp_path: Path, target: str, quantization: str | None, said: str) -> None:
    (tmp_path / "taken.gguf").write_text("mine")
    with pytest.raises(OwnlmError, match=said):
        convert(workshop / "chat", tmp_path / target, quantization=quantization)
    assert [path.name for path in tmp_path.iterdir()] == ["taken.gguf"]
    assert (tmp_path / "taken.gguf").read_text() == "mine"


def test_with_force_what_was_there_is_moved_aside(workshop: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_text("mine")
    convert(workshop / "chat", tmp_path / "mine.gguf", force=True)
    assert (tmp_path / "mine.gguf.old").read_text() == "mine"
    assert load(tmp_path / "mine.gguf")


def test_the_source_is_no_target(workshop: Path, tmp_path: Path) -> None:
    convert(workshop / "chat", tmp_path / "mine.gguf")
    with pytest.raises(OwnlmError, match="is the source itself"):
        convert(tmp_path / "mine.gguf", tmp_path / "mine.gguf", force=True)
    assert load(tmp_path / "mine.gguf")


def test_what_show_says(workshop: Path, tmp_path: Path) -> None:
    facts = describe(read_files(workshop / "chat"))
    model = load(workshop / "chat")
    assert facts["family"] == "qwen3" and facts["card"]["kind"] == "chat model"
    assert facts["parameters"]["total"] == sum(parameter.numel() for parameter in model.decoder.parameters())
    assert facts["tokenizer"]["ends_with"] == ["<|im_end|>", "<|endoftext|>"]
    convert(workshop / "chat", tmp_path / "mine.gguf", quantization="q8_0")
    files = read_files(tmp_path / "mine.gguf")
    shown = describe(files)
    assert shown["parameters"] == facts["parameters"] and shown["card"] is None
    rows = {row["name"]: row for row in tensor_rows(files)}
    assert rows["model.embed_tokens.weight"]["stored_as"] == "Q8_0"
    assert len(rows) == sum(shown["stored_as"].values())


def test_perplexity_is_measured_on_the_text_that_is_given(workshop: Path, tmp_path: Path) -> None:
    text = "The cat sat on the mat and looked at the old dog. " * 12
    own = convert(workshop / "chat", tmp_path / "own.gguf", quantization="q8_0", text=text)
    sample = convert(workshop / "chat", tmp_path / "sample.gguf", quantization="q8_0")
    assert own.perplexity_before != sample.perplexity_before
    with pytest.raises(OwnlmError, match="fewer than 20 words"):
        convert(workshop / "chat", tmp_path / "short.gguf", text="Hello.")


def test_norms_are_not_rounded_when_nothing_may_be_lost(workshop: Path, tmp_path: Path) -> None:
    convert(workshop / "chat", tmp_path / "half.gguf", quantization="f16")
    folder = convert(tmp_path / "half.gguf", tmp_path / "folder")
    assert folder.lossless and folder.stored_as.keys() == {"F32"} and folder.largest_difference == 0
    again = convert(tmp_path / "half.gguf", tmp_path / "again.gguf")
    assert again.lossless and again.stored_as.keys() == {"F16", "F32"}


@pytest.mark.parametrize("target", ["parent", ".", "..", "parent/../parent"])
def test_force_moves_no_folder_that_holds_what_must_stay(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    shutil.copytree(workshop / "chat", tmp_path / "deep" / "parent" / "model")
    monkeypatch.chdir(tmp_path / "deep")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OwnlmError, match="would move aside"):
        convert("parent/model", target, force=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_another_wrote_meanwhile_is_kept(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare = sys.modules["ownlm.opened.convert"]._compare

    def slow(*arguments: object) -> object:
        (tmp_path / "mine.gguf").write_text("another's")
        return compare(*arguments)

    monkeypatch.setattr(sys.modules["ownlm.opened.convert"], "_compare", slow)
    with pytest.raises(OwnlmError, match="written by another meanwhile"):
        convert(workshop / "chat", tmp_path / "mine.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.gguf"]
    assert (tmp_path / "mine.gguf").read_text() == "another's"


def test_weights_that_are_no_numbers_are_refused(workshop: Path, tmp_path: Path) -> None:
    shutil.copytree(workshop / "chat", tmp_path / "model", ignore=shutil.ignore_patterns("card.json"))
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, tmp_path / "model" / "model.safetensors")
    with pytest.raises(DamagedError, match="not finite"):
        load(tmp_path / "model")
