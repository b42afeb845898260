"""`ownlm convert`: what is written says what its source says, or is not left behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import foreign_tokenizers
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model import Decoder
from ownlm.model.checkpoint import Checkpoint
from ownlm.model.families import family_of
from ownlm.model.load import write_decoder
from ownlm.opened import convert, describe, load, read_files, tensor_rows
from ownlm.opened.convert import SAMPLE
from ownlm.tokenizer import ModelTemplate, train_tokenizer
from tiny_checkpoints import tiny_fields
from tiny_models import tiny_tokenizer


@pytest.mark.parametrize("quantization", ["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"])
def test_a_gguf_file_says_what_the_folder_says(workshop: Path, tmp_path: Path, quantization: str) -> None:
    done = convert(workshop / "chat", tmp_path / "mine.gguf", quantization=quantization)
    assert done.lossless is (quantization == "f32")
    assert done.stored_as[quantization.upper()] > 0
    before, after = load(workshop / "chat"), load(done.path, dtype="float32")
    ids = before.tokenizer.encode(SAMPLE)[:60]
    difference = float((before.logits(ids) - after.logits(ids)).abs().max())
    # Packed weights add up in another order than those that were compared.
    assert difference <= done.largest_difference + 1e-4 if quantization != "f32" else difference < 1e-4
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
        ("mine.gguf", "q3_k", "quantization is 'q3_k'; choose one of F32, F16"),
        ("mine.gguf", "", "choose one of F32, F16, BF16, Q8_0"),
        ("mine.ggml", None, "a file that ends in .gguf, or a folder"),
        ("mine.safetensors", None, "a file that ends in .gguf, or a folder"),
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
    done = convert(workshop / "chat", tmp_path / "mine.gguf", force=True)
    assert done.moved == tmp_path / "mine.gguf.old" and done.moved.read_text() == "mine"
    assert load(tmp_path / "mine.gguf")
    (tmp_path / "folder").mkdir()
    assert convert(workshop / "chat", tmp_path / "folder", force=True).moved == tmp_path / "folder.old"
    assert convert(workshop / "chat", tmp_path / "new").moved is None


def test_a_link_to_itself_is_no_target(workshop: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OwnlmError, match="name another target"):
        convert(workshop / "chat", tmp_path / "loop")


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


def test_learned_positions_have_no_angle(tmp_path: Path) -> None:
    assert "rope_theta" not in describe(read_files(small_model(tmp_path / "gpt2", "gpt2")))["shape"]
    assert "rope_theta" in describe(read_files(small_model(tmp_path / "llama", "llama")))["shape"]


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n", "apache-2.0"),
        ("---\r\nlicence: 'MIT'\r\n---\r\n", "MIT"),
        ("# A model\nlicense: see-below\n", None),
        ("---\nlanguage: en\n---\n\nlicense: of another\n", None),
        ("words\n---\nlicense: mit\n---\n", None),
        ("---\nlicense: mit\n", None),
    ],
)
def test_the_licence_is_what_the_model_card_begins_with(
    workshop: Path, tmp_path: Path, readme: str, licence: str | None
) -> None:
    shutil.copytree(workshop / "chat", tmp_path / "model", ignore=shutil.ignore_patterns("card.json"))
    (tmp_path / "model" / "README.md").write_text(readme, newline="")
    assert read_files(tmp_path / "model").licence == licence


@pytest.mark.parametrize("kind", ["bpe", "character"])
def test_our_tokenizers_chat_alike_from_gguf(tmp_path: Path, kind: str) -> None:
    """There it is one of another's kind; ids, what a chat becomes and what ends it are the same."""
    tokenizer = train_tokenizer([SAMPLE], kind=kind, vocab_size=340)
    fields = tiny_fields("qwen3", vocab_size=tokenizer.padded_vocab_size)
    source = tmp_path / "source"
    source.mkdir()
    decoder = Decoder(family_of(fields).read_config(fields))
    ends = [tokenizer.im_end_id, tokenizer.end_of_text_id]
    write_decoder(source, decoder, eos_ids=ends, pad_id=tokenizer.pad_id)
    tokenizer.save(source, chat=True)
    convert(source, tmp_path / "mine.gguf")
    convert(tmp_path / "mine.gguf", tmp_path / "back")
    before = read_files(source)
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "What is <|im_end|> or <think>?\n\n你好"},
        {"role": "assistant", "content": "An end."},
        {"role": "user", "content": "Thanks"},
    ]
    for place in (tmp_path / "mine.gguf", tmp_path / "back"):
        after = read_files(place)
        assert set(after.end_ids) == set(before.end_ids) == set(ends) and after.end_ids[0] == ends[0]
        assert after.template and before.template
        for prompt in (True, False):
            rendered = after.template.render(messages, add_generation_prompt=prompt)
            assert rendered.ids == before.template.render(messages, add_generation_prompt=prompt).ids
        for text in (SAMPLE, "naïve  \n\t <|endoftext|> 👩‍👩‍👧"):
            assert after.tokenizer.prompt_ids(text) == before.tokenizer.prompt_ids(text)
            assert after.tokenizer.decode(after.tokenizer.encode(text)) == text
        assert after.tokenizer.pad_id == before.tokenizer.pad_id


@pytest.mark.parametrize("name", ["chat_template.jinja", "additional_chat_templates/rag.jinja"])
def test_a_template_of_the_users_goes_with_our_tokenizer(tmp_path: Path, name: str) -> None:
    source = small_model(tmp_path / "source", "qwen3")
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).write_text("{{ messages[0].content }}")
    for target in ("folder", "mine.gguf"):
        convert(source, tmp_path / target)
        template, before = (read_files(place).template for place in (tmp_path / target, source))
        assert isinstance(template, ModelTemplate) and isinstance(before, ModelTemplate)
        assert template.templates == before.templates and len(template.templates) == 1


def test_perplexity_is_measured_on_the_text_that_is_given(workshop: Path, tmp_path: Path) -> None:
    text = "The cat sat on the mat and looked at the old dog. " * 12
    own = convert(workshop / "chat", tmp_path / "own.gguf", quantization="q8_0", text=text)
    sample = convert(workshop / "chat", tmp_path / "sample.gguf", quantization="q8_0")
    assert own.perplexity_before != sample.perplexity_before
    assert own.bits_per_byte_before < own.bits_per_byte_after + 0.1 < 8.1
    with pytest.raises(OwnlmError, match="fewer than 20 tokens"):
        convert(workshop / "chat", tmp_path / "short.gguf", text="Hello.")


def test_a_text_without_spaces_is_as_long_as_its_tokens(workshop: Path, tmp_path: Path) -> None:
    done = convert(workshop / "chat", tmp_path / "mine.gguf", text="船在港口停泊了整个冬天，没有人知道是谁派来的。")
    assert done.lossless and 0 < done.bits_per_byte_before == pytest.approx(done.bits_per_byte_after, rel=1e-5)


def test_of_a_long_text_the_beginning_is_read(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ownlm.cli.convert import convert as command

    long = tmp_path / "long.txt"
    long.write_bytes(("The cat sat on the mat. " * 4000).encode() + b"\xff")
    assert command(str(workshop / "chat"), tmp_path / "mine.gguf", quantization="q8_0", text=long) == 0
    assert "bits per byte on" in capsys.readouterr().out


def small_model(folder: Path, kind: str, **changes: Any) -> Path:
    """A random model of a family with a tokenizer of ours, in a folder."""
    tokenizer = tiny_tokenizer()
    fields = tiny_fields(kind, **{"vocab_size": tokenizer.padded_vocab_size, **changes})
    torch.manual_seed(3)
    decoder = Decoder(family_of(fields).read_config(fields))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    folder.mkdir()
    write_decoder(folder, decoder, eos_ids=[tokenizer.end_of_text_id], pad_id=tokenizer.pad_id)
    tokenizer.save(folder)
    return folder


def test_a_tokenizer_that_knows_more_than_the_model(tmp_path: Path) -> None:
    """Added tokens beyond the embedding's rows are left out; ordinary ones are another model's."""
    pipeline = foreign_tokenizers.byte_level()
    rows = pipeline.get_vocab_size()
    pipeline.add_special_tokens(["<image>"])
    source = small_model(tmp_path / "source", "gemma3_text", vocab_size=rows)
    foreign_tokenizers.write_folder(source, pipeline, tokenizer_config={"eos_token": "</s>", "bos_token": "<s>"})
    model = load(source)
    assert max(model.tokenizer.encode("<image>", parse_special=True)) < rows
    assert model.generate("<image>", max_tokens=3).text is not None
    assert convert(source, tmp_path / "mine.gguf").lossless
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "vocab_size": rows - 64}))
    with pytest.raises(OwnlmError, match=r"source: .* rows for 537 tokens.* belongs to it"):
        load(source)


@pytest.mark.parametrize("kind", ["olmo2", "gpt_neox"])
def test_a_tied_head_goes_into_gguf_and_comes_back_tied(tmp_path: Path, kind: str) -> None:
    source = small_model(tmp_path / "source", kind, tie_word_embeddings=True)
    assert convert(source, tmp_path / "mine.gguf").lossless
    back = convert(tmp_path / "mine.gguf", tmp_path / "back")
    assert back.lossless and back.largest_difference == 0
    assert json.loads((tmp_path / "back" / "config.json").read_text())["tie_word_embeddings"] is True
    ids = list(range(30))
    assert torch.equal(load(source).logits(ids), load(tmp_path / "back").logits(ids))


def test_a_context_that_gguf_cuts_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ownlm.cli.convert import convert as command

    source = small_model(tmp_path / "source", "mistral", sliding_window=40)
    assert command(str(source), tmp_path / "mine.gguf") == 0
    assert "its context ends at 40 tokens" in capsys.readouterr().out
    assert load(tmp_path / "mine.gguf").decoder.config.max_position_embeddings == 40
    assert convert(source, tmp_path / "folder").context_cut_to is None


@pytest.mark.parametrize("size", [1e-2, 1e-4])
def test_gemmas_norms_may_lie_close_to_zero(tmp_path: Path, size: float) -> None:
    """GGUF holds 1 + w: of a small w that rounds away more than a millionth."""
    source = small_model(tmp_path / "source", "gemma3_text")
    weights = load_file(source / "model.safetensors")
    for name, tensor in weights.items():
        if tensor.ndim == 1:
            weights[name] = torch.randn_like(tensor) * size
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    assert convert(source, tmp_path / "mine.gguf").lossless


def test_a_context_of_one_token_is_refused(workshop: Path, tmp_path: Path) -> None:
    shutil.copytree(workshop / "chat", tmp_path / "model", ignore=shutil.ignore_patterns("card.json"))
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "max_position_embeddings": 1}))
    with pytest.raises(OwnlmError, match="nothing can be compared; take another model"):
        convert(tmp_path / "model", tmp_path / "mine.gguf")


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
    with pytest.raises(OwnlmError, match=r"would move aside|names no new"):
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


@pytest.mark.skipif(os.name == "nt", reason="announced: Windows has no SIGKILL")
@pytest.mark.parametrize("name", ["mine.gguf", "folder"])
def test_a_killed_convert_leaves_nothing_that_the_next_does_not_clear(
    workshop: Path, tmp_path: Path, name: str
) -> None:
    code = (
        "import os, signal, sys; from ownlm.opened import convert\n"
        "def kill(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.modules['ownlm.opened.convert']._compare = kill; convert(sys.argv[1], sys.argv[2])"
    )
    target = tmp_path / name
    done = subprocess.run([sys.executable, "-c", code, str(workshop / "chat"), str(target)])
    assert done.returncode == -signal.SIGKILL
    assert not target.exists() and len(list(tmp_path.iterdir())) == 1
    convert(workshop / "chat", target)
    assert list(tmp_path.iterdir()) == [target] and load(target)


@pytest.mark.skipif(os.name == "nt", reason="announced: Windows journals its renames")
def test_the_rename_of_a_file_is_made_durable(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    module = sys.modules["ownlm.artefact.folder"]
    monkeypatch.setattr(module, "fsync_folder", lambda folder: seen.append((folder / "mine.gguf").exists()))
    convert(workshop / "chat", tmp_path / "mine.gguf")
    assert seen == [True]
