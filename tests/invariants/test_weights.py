"""Weights on disk and in memory: tied ones once and together, nothing left as torch made it, modes put back."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ownlm.engine.perplexity import text_loss
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model import Decoder, initialise
from ownlm.model.load import read_decoder, write_decoder
from ownlm.opened import load
from ownlm.train.conversations import ConversationRows, Example
from ownlm.train.pretrain import continue_prompts, token_sizes
from ownlm.train.tuning_looks import answer_questions, validate
from tiny_models import random_decoder, random_documents, tiny_config, tiny_tokenizer


@pytest.mark.parametrize("tied", [True, False])
def test_saved_once_and_tied_again(tmp_path: Path, tied: bool) -> None:
    model = random_decoder(tie_word_embeddings=tied)
    write_decoder(tmp_path, model, eos_ids=[1], pad_id=2)
    names = load_file(tmp_path / "model.safetensors").keys()
    assert ("lm_head.weight" in names) is not tied
    opened = read_decoder(tmp_path)
    assert (opened.lm_head.weight is opened.model.embed_tokens.weight) is tied
    assert opened.config == model.config and not opened.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, opened.state_dict()[name]), name
    with torch.no_grad():
        opened.model.embed_tokens.weight[0, 0] = 123.0
    assert (float(opened.lm_head.weight[0, 0].detach()) == 123.0) is tied


def test_a_tied_head_that_was_written_too_is_read(tmp_path: Path) -> None:
    model = random_decoder()
    write_decoder(tmp_path, model, eos_ids=[1], pad_id=2)
    save_file({name: tensor.clone() for name, tensor in model.state_dict().items()}, tmp_path / "model.safetensors")
    opened = read_decoder(tmp_path)
    assert opened.lm_head.weight is opened.model.embed_tokens.weight


@pytest.mark.parametrize("tied", [True, False])
def test_no_parameter_keeps_its_storage(tied: bool) -> None:
    model = Decoder(tiny_config(tie_word_embeddings=tied))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    initialise(model, 0)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    other = initialise(Decoder(tiny_config(tie_word_embeddings=tied)), 0)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    assert not torch.equal(initialise(other, 1).model.embed_tokens.weight, model.model.embed_tokens.weight)


def test_the_first_loss_is_that_of_guessing() -> None:
    model = initialise(Decoder(tiny_config()), 0)
    ids = torch.randint(0, 400, (4, 33), generator=torch.Generator().manual_seed(0))
    loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert float(loss.detach()) == pytest.approx(torch.tensor(float(model.config.vocab_size)).log().item(), abs=0.1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors: tensors.pop("model.norm.weight"),
        lambda tensors: tensors.update(extra=torch.zeros(1)),
        lambda tensors: tensors.update({"model.norm.weight": torch.zeros(7)}),
    ],
    ids=["missing", "too many", "shape"],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, damage: object) -> None:
    write_decoder(tmp_path, random_decoder(), eos_ids=[1], pad_id=2)
    tensors = load_file(tmp_path / "model.safetensors")
    damage(tensors)  # type: ignore[operator]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(DamagedError, match=r"tensors do not fit the model's configuration: .*(model\.norm|extra)"):
        read_decoder(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mamba"}, "model_type is 'mamba', .*it opens: gemma2, .*qwen3"),
        ({"model_type": "llama"}, "q_norm.weight belongs to no layer"),
        ({"rope_scaling": {"rope_type": "fancy", "factor": 4}}, "type is 'fancy'"),
        ({"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4}}, "lacks factor"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping is 30.0"),
        ({"head_dim": None}, "has shape"),
    ],
)
def test_what_is_not_built_is_refused_not_ignored(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write_decoder(tmp_path, random_decoder(), eos_ids=[1], pad_id=2)
    fields = json.loads((tmp_path / "config.json").read_text()) | change
    fields = {name: value for name, value in fields.items() if value is not None or name == "bos_token_id"}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(OwnlmError, match=message):
        read_decoder(tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    write_decoder(tmp_path, random_decoder(), eos_ids=[1], pad_id=2)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(OwnlmError, match="pickled weights"):
        read_decoder(tmp_path)


def test_saved_and_loaded_through_the_public_objects(workshop: Path, tmp_path: Path) -> None:
    model = load(workshop / "chat")
    copy = load(model.save(tmp_path / "copy"))
    ids = model.tokenizer.encode("The cat sat")
    assert torch.equal(model.logits(ids), copy.logits(ids))
    assert copy.template is not None and copy.end_ids == model.end_ids
    assert copy.decoder.lm_head.weight is copy.decoder.model.embed_tokens.weight
    with pytest.raises(OwnlmError, match="exists already"):
        model.save(tmp_path / "copy")
    assert {path.name for path in tmp_path.iterdir()} == {"copy"}


def test_angles_stay_exact_in_a_bfloat16_model(tmp_path: Path) -> None:
    """bfloat16 cannot tell position 256 from 257."""
    write_decoder(tmp_path, random_decoder(), eos_ids=[1], pad_id=2)
    low, exact = read_decoder(tmp_path, dtype=torch.bfloat16).rope, read_decoder(tmp_path).rope
    assert low is not None and exact is not None
    assert low.frequencies.dtype == torch.float32 and torch.equal(low.frequencies, exact.frequencies)


@pytest.mark.parametrize("training", [True, False])
def test_looks_put_the_mode_back(workshop: Path, training: bool) -> None:
    from ownlm.tokenizer import ChatTemplate
    from tiny_journey import base_recipe, chat_recipe

    model = random_decoder().train(training)
    tokenizer = tiny_tokenizer()
    documents = random_documents([9, 12])
    text_loss(model, [documents.document(0)], token_sizes(tokenizer), context=8)
    assert model.training is training
    continue_prompts(model, tokenizer=tokenizer, recipe=base_recipe(workshop, workshop))
    assert model.training is training
    answer_questions(model, template=ChatTemplate(tokenizer), recipe=chat_recipe(workshop, workshop))
    assert model.training is training
    ids = documents.document(0)
    example = Example(ids=ids, trained=ids >= 0)
    validate(model, rows=ConversationRows([example], context=16, seed=0))
    assert model.training is training
