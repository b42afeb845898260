"""The decoder against transformers: its recorded logits, those of the one-file model, and (peers) itself."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import foreign_tokenizers
from ownlm.model import Decoder, DecoderConfig
from ownlm.model.load import read_decoder, write_decoder
from ownlm.opened import load, read_files
from ownlm.opened.surgery import write_with_tokens
from tiny_models import random_decoder, random_ids

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
REFERENCE = json.loads((HERE / "references" / "logits.json").read_text(encoding="utf-8"))


def module_at(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", REFERENCE["cases"])
def test_the_recorded_logits_of_transformers(case: str) -> None:
    maker = module_at(HERE / "references" / "make_logits.py")
    model = Decoder(DecoderConfig(**maker.COMMON, **maker.SHAPES[case]))
    maker.fill(model)
    with torch.inference_mode():
        logits = model(torch.tensor(maker.IDS))[:, :, ::8]
    expected = torch.tensor(REFERENCE["cases"][case])
    assert logits.shape == expected.shape and expected.abs().max() > 1
    assert (logits - expected).abs().max() < 1e-4


@pytest.mark.parametrize("tied", [True, False])
def test_the_one_file_models_weights_give_its_logits_here(tied: bool) -> None:
    example = module_at(ROOT / "examples" / "llm_in_one_file.py")
    torch.manual_seed(0)
    config = example.Config(vocab_size=70, num_hidden_layers=2, hidden_size=64, tie_word_embeddings=tied)
    theirs = example.LanguageModel(config)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.mul_(5 if parameter.ndim == 2 else 1 + 0.1 * torch.rand(len(parameter)))
    ours = Decoder(DecoderConfig(**vars(config)))
    ours.load_state_dict(theirs.state_dict())
    ids = torch.randint(70, (3, 40))
    with torch.inference_mode():
        assert theirs(ids).abs().max() > 1
        torch.testing.assert_close(ours(ids), theirs(ids), rtol=1e-4, atol=1e-4)


SHAPES: dict[str, dict[str, Any]] = {
    "tied": {},
    "untied": {"tie_word_embeddings": False},
    "one key head": {"num_key_value_heads": 1},
    "no sharing": {"num_key_value_heads": 4, "rope_theta": 1e6, "head_dim": 32},
}


@pytest.mark.peers
@pytest.mark.parametrize("shape", SHAPES)
def test_a_saved_model_opens_there_with_the_same_logits(tmp_path: Path, shape: str) -> None:
    from transformers import AutoModelForCausalLM

    model = random_decoder(**SHAPES[shape]).eval()
    write_decoder(tmp_path, model, eos_ids=[5, 6], pad_id=7)
    peer, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = torch.tensor([random_ids(60, seed=1), random_ids(60, seed=2)])
    with torch.inference_mode():
        ours, theirs = model(ids), peer(ids).logits
    assert theirs.dtype == torch.float32 and (ours - theirs).abs().max() < 1e-4
    assert peer.generation_config.eos_token_id == [5, 6] and peer.generation_config.pad_token_id == 7
    assert peer.generation_config.bos_token_id is None
    assert sum(p.numel() for p in peer.parameters()) == sum(p.numel() for p in model.parameters())


@pytest.mark.peers
def test_what_it_saves_opens_here(tmp_path: Path) -> None:
    """The other way: config.json and weights as transformers writes them."""
    from transformers import AutoModelForCausalLM

    model = random_decoder().eval()
    (tmp_path / "ours").mkdir()
    write_decoder(tmp_path / "ours", model, eos_ids=[5], pad_id=7)
    AutoModelForCausalLM.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    back = read_decoder(tmp_path / "theirs")
    assert back.config == model.config
    ids = torch.tensor([random_ids(20)])
    with torch.inference_mode():
        assert torch.equal(back(ids), model(ids))


@pytest.mark.peers
@pytest.mark.parametrize("folder", ["base", "chat"])
def test_a_trained_folder_opens_there(workshop: Path, folder: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ours = load(workshop / folder)
    peer, tokenizer = (kind.from_pretrained(workshop / folder) for kind in (AutoModelForCausalLM, AutoTokenizer))
    for text in ("The cat sat on a mat.", "naïve 中文 def f(x): return 1984\n\n  x", ""):
        assert tokenizer(text)["input_ids"] == ours.tokenizer.encode(text)
    ids = ours.tokenizer.encode("What does len do? The cat saw how seven small dogs ran")
    with torch.inference_mode():
        theirs = peer(torch.tensor([ids])).logits[0]
    assert (ours.logits(ids) - theirs).abs().max() < 1e-4
    ends = peer.generation_config.eos_token_id
    assert ends == list(ours.end_ids) and tokenizer.eos_token_id == ends[0]
    assert tokenizer.bos_token is None and tokenizer.pad_token_id not in ends


@pytest.mark.peers
def test_greedy_generation_there_says_the_same(workshop: Path) -> None:
    from transformers import AutoModelForCausalLM

    ours = load(workshop / "chat")
    peer = AutoModelForCausalLM.from_pretrained(workshop / "chat")
    prompt = ours.question_prompt("Who are you?")
    theirs = peer.generate(torch.tensor([prompt]), max_new_tokens=30, do_sample=False)[0, len(prompt) :].tolist()
    done = ours.complete([prompt], temperature=0, max_tokens=30)[0]
    assert done.token_ids == theirs and done.text == "A small model."


@pytest.mark.peers
@pytest.mark.parametrize("tied", [True, False])
def test_a_model_with_new_tokens_opens_there_with_the_same_ids_and_logits(tmp_path: Path, tied: bool) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    pipeline = foreign_tokenizers.byte_level()
    foreign_tokenizers.write_folder(tmp_path / "base", pipeline, tokenizer_config=foreign_tokenizers.CONFIG)
    decoder = random_decoder(vocab_size=pipeline.get_vocab_size(), tie_word_embeddings=tied)
    write_decoder(tmp_path / "base", decoder, eos_ids=[1], pad_id=None)
    write_with_tokens(read_files(tmp_path / "base"), ["<|note|>", "<|end|>."], tmp_path / "more")
    ours, base = load(tmp_path / "more", dtype="float32"), load(tmp_path / "base", dtype="float32")
    peer, report = AutoModelForCausalLM.from_pretrained(tmp_path / "more", output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    text = "The cat <|note|> sat on<|end|>. a mat"
    ids = AutoTokenizer.from_pretrained(tmp_path / "more")(text, add_special_tokens=False).input_ids
    assert ids == ours.tokenizer.encode(text, parse_special=True) and max(ids) == ours.decoder.config.vocab_size - 1
    with torch.inference_mode():
        torch.testing.assert_close(peer(torch.tensor([ids])).logits[0], ours.logits(ids), rtol=1e-4, atol=1e-4)
    old = base.tokenizer.encode("The cat sat on a mat")
    torch.testing.assert_close(ours.logits(old)[:, :-2], base.logits(old))
    embedding, head = peer.get_input_embeddings().weight, peer.get_output_embeddings().weight
    assert (embedding.data_ptr() == head.data_ptr()) is tied
