"""One flipped bit in any artefact is refused before the first token or step, in one line that names the file."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ownlm.artefact import verify_artefact
from ownlm.corpus.make_tokenizer import TokenizerConfig, make_tokenizer
from ownlm.corpus.shards import TokenSet, write_tokens
from ownlm.errors import DamagedError, OwnlmError
from ownlm.opened import load
from ownlm.train import finetune, pretrain
from ownlm.train.checkpoint import checkpoints
from ownlm.train.loop import Looks, Stopped, train
from ownlm.train.pack import DocumentRows
from tiny_journey import QUESTIONS, base_recipe, chat_recipe, train_config
from tiny_models import flip_bit, make_conversations, make_corpus, random_decoder, random_documents, tiny_plan

ROUTES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "corpus, tokenizer": (
        "corpus/documents.parquet",
        lambda w: make_tokenizer(w / "corpus", w / "x", TokenizerConfig()),
    ),
    "corpus, tokens": ("corpus/documents.parquet", lambda w: write_tokens(w / "corpus", w / "tokenizer", w / "x")),
    "tokenizer, tokens": ("tokenizer/tokenizer.json", lambda w: write_tokens(w / "corpus", w / "tokenizer", w / "x")),
    "tokenizer, pretrain": ("tokenizer/tokenizer.json", lambda w: pretrain(base_recipe(w, w / "x"))),
    "tokens": ("tokens/train-00000.npy", lambda w: TokenSet.open(w / "tokens")),
    "tokens, pretrain": ("tokens/train-00000.npy", lambda w: pretrain(base_recipe(w, w / "x"))),
    "documents, pretrain": ("tokens/train.documents.npy", lambda w: pretrain(base_recipe(w, w / "x"))),
    "conversations": ("conversations/train.jsonl", lambda w: finetune(chat_recipe(w, w / "x"))),
    "base, finetune": ("base/model.safetensors", lambda w: finetune(chat_recipe(w, w / "x"))),
    "base, finetune, config": ("base/config.json", lambda w: finetune(chat_recipe(w, w / "x"))),
    **{
        f"load, {name}": (f"chat/{name}", lambda w: load(w / "chat"))
        for name in (
            "model.safetensors",
            "config.json",
            "generation_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "chat_template.jinja",
            "recipe.yaml",
            "run.json",
        )
    },
}


def one_line(error: BaseException, name: str) -> None:
    message = str(error)
    assert "\n" not in message and len(message) < 400
    assert name in message
    assert any(word in message for word in ("restore", "anew", "again")), message


@pytest.mark.parametrize("route", ROUTES)
def test_a_flipped_bit_is_refused(workshop: Path, tmp_path: Path, route: str) -> None:
    name, work = ROUTES[route]
    shutil.copytree(workshop, tmp_path / "w")
    flip_bit(tmp_path / "w" / name)
    with pytest.raises(DamagedError) as refused:
        work(tmp_path / "w")
    one_line(refused.value, name)
    left = tmp_path / "w" / "x"
    assert not left.exists() or (not (left / "card.json").exists() and not (left / "events.jsonl").exists())


@pytest.mark.parametrize("route", ["tokens", "base, finetune", "load, model.safetensors"])
def test_a_missing_file_is_refused(workshop: Path, tmp_path: Path, route: str) -> None:
    name, work = ROUTES[route]
    shutil.copytree(workshop, tmp_path / "w")
    (tmp_path / "w" / name).unlink()
    with pytest.raises(DamagedError, match=r"is missing") as refused:
        work(tmp_path / "w")
    one_line(refused.value, name)


def test_every_byte_of_a_card_matters_or_is_free_text(workshop: Path, tmp_path: Path) -> None:
    """A hash in the card that is changed with its file is still refused by the content hash."""
    shutil.copytree(workshop / "chat", tmp_path / "chat")
    card = tmp_path / "chat" / "card.json"
    text = card.read_text()
    place = text.index('"sha256": "') + len('"sha256": "')
    card.write_text(text[:place] + ("1" if text[place] == "0" else "0") + text[place + 1 :])
    with pytest.raises(DamagedError, match=r"card\.json is damaged"):
        verify_artefact(tmp_path / "chat")
    card.write_text(text[: len(text) // 2])
    with pytest.raises(DamagedError, match=r"card\.json is damaged"):
        verify_artefact(tmp_path / "chat")


def test_tokens_of_another_tokenizer_are_refused(workshop: Path, tmp_path: Path) -> None:
    make_tokenizer(workshop / "corpus", tmp_path / "other", TokenizerConfig(vocab_size=300))
    recipe = base_recipe(workshop, tmp_path / "x", tokenizer=str(tmp_path / "other"))
    with pytest.raises(OwnlmError, match=r"made with another tokenizer than .*tokenize the corpus again"):
        pretrain(recipe)


def rows() -> DocumentRows:
    return DocumentRows(random_documents([30, 40], vocab=64), context=16, seed=0)


def stopped_run(folder: Path) -> None:
    def watch(event: dict[str, object]) -> None:
        if event["event"] == "step" and event["step"] == 3:
            (folder / "control").write_text("stop")

    with pytest.raises(Stopped):
        train(folder, tiny_plan(checkpoint_seconds=0.0), random_decoder(vocab_size=64), rows(), Looks(watch=watch))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_serves(tmp_path: Path, name: str) -> None:
    stopped_run(tmp_path)
    before, newest = checkpoints(tmp_path)
    flip_bit(newest / name)
    events = (tmp_path / "events.jsonl").read_bytes()
    model = random_decoder(vocab_size=64)
    with pytest.raises(DamagedError, match=f"{name} is damaged.*delete .*{newest.name} to go on") as refused:
        train(tmp_path, tiny_plan(), model, rows(), Looks())
    assert "\n" not in str(refused.value)
    assert (tmp_path / "events.jsonl").read_bytes() == events, "a refusal loses nothing"
    shutil.rmtree(newest)
    seen: list[int] = []
    train(tmp_path, tiny_plan(), model, rows(), Looks(watch=lambda event: seen.append(event["step"])))
    assert before.name == "step-00000002" and seen[-1] == 6


def test_a_run_begun_with_another_recipe_is_refused(workshop: Path, tmp_path: Path) -> None:
    shutil.copytree(workshop, tmp_path / "w")
    hashes = {path: path.read_bytes() for path in (tmp_path / "w" / "base").rglob("*") if path.is_file()}
    recipe = base_recipe(workshop, tmp_path / "w" / "base", train=train_config(steps=9))
    with pytest.raises(OwnlmError, match=r"begun with another recipe.*begin anew"):
        pretrain(recipe)
    assert {path: path.read_bytes() for path in (tmp_path / "w" / "base").rglob("*") if path.is_file()} == hashes


def test_a_finished_run_is_not_done_again(workshop: Path) -> None:
    before = (workshop / "base" / "card.json").stat().st_mtime_ns
    seen: list[object] = []
    assert pretrain(base_recipe(workshop, workshop / "base"), on_event=seen.append) == workshop / "base"
    assert (workshop / "base" / "card.json").stat().st_mtime_ns == before and seen == []


def test_a_folder_that_holds_something_else_is_refused(workshop: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(OwnlmError, match=r"is not empty and holds no run"):
        pretrain(base_recipe(workshop, tmp_path))
    assert (tmp_path / "mine.txt").read_text() == "precious"


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """A limit on the size of a file stands in for the full disk: the same error arises where it is written."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


STAGES: dict[str, tuple[int, Callable[[Path, Path], object]]] = {
    "corpus": (2_000, lambda source, out: make_corpus(out)),
    "tokenizer": (5_000, lambda source, out: make_tokenizer(source / "corpus", out, TokenizerConfig())),
    "tokens": (1_000, lambda source, out: write_tokens(source / "corpus", source / "tokenizer", out)),
    "conversations": (100, lambda source, out: make_conversations(out, QUESTIONS)),
    "save": (50_000, lambda source, out: load(source / "chat").save(out)),
}


@pytest.mark.skipif(os.name == "nt", reason="announced: Windows has no file size limit")
@pytest.mark.parametrize("stage", STAGES)
def test_a_disk_that_fills_is_one_line_and_leaves_nothing(workshop: Path, tmp_path: Path, stage: str) -> None:
    limit, work = STAGES[stage]
    with full_disk(limit), pytest.raises(OwnlmError, match=r"cannot write .*free some space") as refused:
        work(workshop, tmp_path / "out")
    assert "\n" not in str(refused.value) and str(tmp_path) in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    work(workshop, tmp_path / "out")


@pytest.mark.skipif(os.name == "nt", reason="announced: Windows has no file size limit")
@pytest.mark.parametrize(
    ("limit", "where"),
    [
        (100_000, "the weights of the first snapshot"),
        (400_000, "the optimizer's state in a checkpoint: the weights are smaller"),
        (2_500, "a later line of events.jsonl"),
    ],
)
def test_a_disk_that_fills_in_training_loses_nothing(workshop: Path, tmp_path: Path, limit: int, where: str) -> None:
    out = tmp_path / "out"
    snapshots = 1 if limit == 100_000 else 0
    recipe = base_recipe(workshop, out, train=train_config(checkpoint_seconds=0.0, snapshots=snapshots))
    with full_disk(limit), pytest.raises(OwnlmError, match=r"cannot write .*free some space") as refused:
        pretrain(recipe)
    assert "\n" not in str(refused.value) and str(out) in str(refused.value)
    assert [path for path in tmp_path.rglob(".*") if path.name != ".lock"] == []
    assert not (out / "card.json").exists() and all(verify_artefact(folder) for folder in checkpoints(out))
    pretrain(recipe)
    whole = pretrain(base_recipe(workshop, tmp_path / "whole", train=recipe.train))
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
