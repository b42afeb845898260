"""New tokens and another chat template: ids, rows, folders, and a model that is then tuned to chat."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import foreign_tokenizers as foreign
from ownlm.cli.tokenizer import add
from ownlm.errors import OwnlmError
from ownlm.journey import TuneRecipe, tune
from ownlm.model.load import write_decoder
from ownlm.model.lora_folder import CONFIG
from ownlm.opened import convert, load, read_files
from ownlm.opened.build import build
from ownlm.opened.surgery import add_tokens, with_chat_template
from ownlm.tokenizer import Tokenizer, with_tokens
from ownlm.train import FinetuneRecipe, LoraTuning, finetune
from tiny_journey import chat_recipe, tune_config
from tiny_models import random_decoder, random_ids, tiny_tokenizer

NEW = ["<|note|>", "<|source|>"]
ASKED = [{"role": "user", "content": "What does len do?"}]
TURNS = "{% for m in messages %}{{ m.role }}: {{ m.content }}<|turn_end|>\n{% endfor %}"
KINDS = ["byte_level", "sentencepiece", "unigram"]


def folder_of(place: Path, pipeline: Any, **config: Any) -> Path:
    """A base model of another maker: its tokenizer has no token of ChatML's, and begins every text with <s>."""
    foreign.write_folder(place, pipeline, tokenizer_config=foreign.CONFIG)
    tokenizer = Tokenizer.load(place)
    decoder = random_decoder(vocab_size=tokenizer.vocab_size + 1, max_position_embeddings=256, **config)
    write_decoder(place, decoder, eos_ids=tokenizer.end_ids, pad_id=None)
    return place


@pytest.mark.parametrize("kind", [*KINDS, "own"])
def test_new_tokens_come_after_all_others_and_no_text_says_them(tmp_path: Path, kind: str) -> None:
    if kind == "own":
        before = tiny_tokenizer()
    else:
        foreign.write_folder(tmp_path, getattr(foreign, kind)(), tokenizer_config=foreign.CONFIG)
        before = Tokenizer.load(tmp_path)
    after = with_tokens(before, NEW)
    ids = [before.vocab_size, before.vocab_size + 1]
    assert [after.special[token] for token in NEW] == ids and after.vocab_size == before.vocab_size + 2
    assert after.own == before.own and after.end_ids == before.end_ids and after.prefix_ids == before.prefix_ids
    said = "the cat <|note|> sat"
    assert not set(after.encode(said)) & set(ids) and after.decode(after.encode("the cat")) == "the cat"
    assert after.encode("the cat sat") == before.encode("the cat sat")
    assert ids[0] in after.encode(said, parse_special=True) and after.decode(ids) == "".join(NEW)
    after.save(tmp_path / "saved")
    again = Tokenizer.load(tmp_path / "saved")
    assert again.special == after.special and again.encode(said, parse_special=True) == after.encode(
        said, parse_special=True
    )


@pytest.mark.parametrize(
    ("token", "words"), [("<s>", "is a token already"), ("e", "is a token already"), (" ", "is empty")]
)
def test_tokens_that_cannot_be_added(tmp_path: Path, token: str, words: str) -> None:
    foreign.write_folder(tmp_path, foreign.byte_level(), tokenizer_config=foreign.CONFIG)
    with pytest.raises(OwnlmError, match=words):
        with_tokens(Tokenizer.load(tmp_path), ["<|new|>", token])
    with pytest.raises(OwnlmError, match="already"):
        with_tokens(tiny_tokenizer(), ["<|new|>", "<|new|>"])


@pytest.mark.parametrize("tied", [True, False])
def test_rows_are_the_mean_of_those_in_use_and_old_scores_stay(tmp_path: Path, tied: bool) -> None:
    place = folder_of(tmp_path / "base", foreign.byte_level(), tie_word_embeddings=tied)
    assert add(str(place), *NEW, out=tmp_path / "more") == 0
    old, new = load(place, dtype="float32"), load(tmp_path / "more", dtype="float32")
    rows, used = old.decoder.config.vocab_size, old.tokenizer.vocab_size
    assert rows == used + 1, "one row is spare, and taken first"
    assert new.decoder.config.vocab_size == used + 2 == new.files.checkpoint.fields["vocab_size"]
    ids = random_ids(12, vocab=used)
    torch.testing.assert_close(new.logits(ids)[:, :used], old.logits(ids)[:, :used])
    tables = new.decoder.model.embed_tokens.weight, new.decoder.lm_head.weight
    assert (tables[0].data_ptr() == tables[1].data_ptr()) is tied
    for table, before in zip(tables, (old.decoder.model.embed_tokens.weight, old.decoder.lm_head.weight), strict=True):
        torch.testing.assert_close(table[used:], before[:used].mean(0).expand(2, -1))
    assert new.generate("the cat", max_tokens=3, temperature=0).token_ids


def test_a_padded_vocabulary_stays_so() -> None:
    from ownlm.model.more_rows import add_rows

    for new, wanted in ((2, 448), (49, 512)):
        decoder = random_decoder(vocab_size=448)
        add_rows(decoder, used=400, new=new)
        assert decoder.pack()(torch.tensor([[400 + new - 1]])).shape[-1] == wanted == decoder.config.vocab_size


@pytest.mark.parametrize("form", ["chatml", "turns"])
def test_a_base_without_a_template_is_tuned_to_chat(workshop: Path, tmp_path: Path, form: str) -> None:
    place = folder_of(tmp_path / "base", foreign.byte_level(), tie_word_embeddings=True)
    (tmp_path / "turns.jinja").write_text(TURNS)
    train = tune_config(steps=2, rows=2, context=128)
    wishes: dict[str, Any] = {"chatml": {"chat_template": "chatml"}}.get(
        form, {"chat_template": str(tmp_path / "turns.jinja"), "add_tokens": ("<|turn_end|>",)}
    )
    recipe = chat_recipe(workshop, tmp_path / "run", model=str(place), train=train, **wishes)
    finetune(recipe)
    model = load(tmp_path / "run")
    end = model.tokenizer.special["<|im_end|>" if form == "chatml" else "<|turn_end|>"]
    assert model.template is not None and end in model.end_ids and "</s>" in model.tokenizer.special
    rendered = model.template.render([*ASKED, {"role": "assistant", "content": "It counts."}])
    assert [id for id, trained in zip(rendered.ids, rendered.trained, strict=True) if trained][-1] == end
    assert (rendered.ids[0] == model.tokenizer.bos_id) is (form == "chatml")
    assert model.chat(ASKED, max_tokens=3).token_ids
    # The same command finds the same recipe again.
    finetune(recipe)


def test_a_base_without_a_template_learns_documents(workshop: Path, tmp_path: Path) -> None:
    place = folder_of(tmp_path / "base", foreign.byte_level())
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(f'{{"text": "The cat {n} is on mat {n}."}}\n' for n in range(60)))
    wishes = {"conversations": str(texts), "ask": (), "train": tune_config(steps=1, rows=2)}
    made = chat_recipe(workshop, tmp_path / "run", model=str(place), **wishes)
    own = {entry.name: getattr(made, entry.name) for entry in fields(FinetuneRecipe)}
    run, found = tune(TuneRecipe(**own, measure=("held-out",), measure_items=2))
    assert found is not None and not found.chat and load(run).template is None
    comparisons = found["conversations"].comparisons
    assert comparisons is not None and "bits_per_byte" in comparisons
    assert "model.generate(" in (run / "README.md").read_text()
    for wrong, words in (
        ({"conversations": str(workshop / "conversations")}, "name one in the recipe"),
        ({"ask": ("Who?",)}, "ask: the model has no chat template"),
    ):
        with pytest.raises(OwnlmError, match=words):
            finetune(replace(made, out=str(tmp_path / "wrong"), **wrong))


@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_brings_the_rows_of_new_tokens(workshop: Path, tmp_path: Path, tied: bool) -> None:
    place = folder_of(tmp_path / "base", foreign.byte_level(), tie_word_embeddings=tied)
    train = tune_config(steps=2, rows=2, context=128)
    lora = LoraTuning(rank=2)
    finetune(chat_recipe(workshop, tmp_path / "run", model=str(place), train=train, chat_template="chatml", lora=lora))
    model, base = load(tmp_path / "run", dtype="float32"), load(place, dtype="float32")
    used = base.tokenizer.vocab_size
    ids = list(range(used, used + 2))
    assert [model.tokenizer.special[token] for token in ("<|im_start|>", "<|im_end|>")] == ids
    fields = json.loads((tmp_path / "run" / CONFIG).read_text())
    names = ["embed_tokens"] if tied else ["embed_tokens", "lm_head"]
    assert fields["trainable_token_indices"] == dict.fromkeys(names, ids)
    for new, old in (("embed_tokens", base.decoder.model.embed_tokens), ("lm_head", base.decoder.lm_head)):
        table = (model.decoder.model.embed_tokens if new == "embed_tokens" else model.decoder.lm_head).weight
        assert torch.equal(table[:used], old.weight[:used])
        assert not torch.allclose(table[used : used + 2], old.weight[:used].mean(0), atol=1e-4)
    assert ids[1] in model.end_ids and model.chat(ASKED, max_tokens=3, temperature=0).token_ids
    convert(tmp_path / "run", tmp_path / "merged")
    said = [*random_ids(8, vocab=used), *ids]
    torch.testing.assert_close(load(tmp_path / "merged").logits(said), model.logits(said), rtol=1e-4, atol=1e-4)
    # Beside the weights of a lower precision they are the same within that.
    low = load(tmp_path / "run", dtype="bfloat16")
    assert (low.logits(said) - model.logits(said)).abs().mean() < 0.1 * model.logits(said).abs().mean()
    with pytest.raises(OwnlmError, match="open the adapter's own folder"):
        base.use_adapter(tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "no special token, so it would never end"),
        (None, "x.jinja"),
    ],
)
def test_templates_that_cannot_be(tmp_path: Path, text: str | None, words: str) -> None:
    files = read_files(folder_of(tmp_path / "base", foreign.byte_level()))
    if text is not None:
        (tmp_path / "x.jinja").write_text(text)
    with pytest.raises(OwnlmError, match=words):
        with_chat_template(files, str(tmp_path / "x.jinja"))


def test_one_of_ours_that_has_a_template_keeps_it(workshop: Path) -> None:
    files = add_tokens(read_files(workshop / "chat"), NEW)
    assert files.template is not None and files.template.tokenizer is files.tokenizer
    assert build(files).config.vocab_size % 64 == 0
    assert with_chat_template(read_files(workshop / "base"), "chatml").template is not None
