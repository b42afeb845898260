"""Pretraining: tokens in, a base model out.

tokens/ ──rows──▶ next-token loss ──▶ loop (run folder) ──▶ base model folder
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ownlm.artefact import Watch, folder_lock
from ownlm.corpus.shards import TokenSet
from ownlm.engine import Request, Sampling, complete_at_once
from ownlm.engine.perplexity import TextLoss, text_loss
from ownlm.errors import OwnlmError
from ownlm.machine import best_device
from ownlm.model import Decoder, ModelShape, evaluating, initialise, parameter_count, training_flops_per_token
from ownlm.model.load import to_checkpoint
from ownlm.opened.files import ModelFiles
from ownlm.tokenizer import Tokenizer
from ownlm.train import run_folder
from ownlm.train.config import TrainConfig, check_watch
from ownlm.train.loop import Looks, fix_plan, train
from ownlm.train.pack import DocumentRows
from ownlm.train.plan import make_plan

# A look while training reads so many tokens of each held-out slice: always the same ones.
QUICK_TOKENS = 6_000
# Reported beside the others, and not part of the one figure: text of a package that training never saw.
APART = "package"


@dataclass(frozen=True, kw_only=True)
class PretrainRecipe:
    """Folders are relative to where the command runs. `watch`: starts of texts that are continued now and then."""

    tokens: str
    tokenizer: str
    out: str
    model: ModelShape = field(default_factory=ModelShape)
    train: TrainConfig
    watch: tuple[str, ...] = ("Return", "The")
    sample_tokens: int = 48

    def __post_init__(self) -> None:
        check_watch(self.watch)


def pretrain(
    recipe: PretrainRecipe, *, on_event: Watch = lambda event: None, facts: Mapping[str, Any] | None = None
) -> Path:
    """Train a base model by `recipe`, or go on with it; returns its folder. Raises loop.Stopped when asked to stop.

    `facts` join the run's start event: the reference lines, for one.
    """
    run, tokenizer_folder = Path(recipe.out), Path(recipe.tokenizer)
    with folder_lock(run):
        run_folder.begin(run, recipe)
        if run_folder.is_finished(run):
            return run
        tokens = TokenSet.open(Path(recipe.tokens))
        tokens.check_tokenizer(tokenizer_folder)
        tokenizer = Tokenizer.load(tokenizer_folder)
        inputs = {"tokens": tokens.card.content, "tokenizer": tokens.card.inputs["tokenizer"]}
        context = recipe.train.context
        config = recipe.model.config(vocab_size=tokenizer.padded_vocab_size, context=context)
        model = initialise(Decoder(config), recipe.train.seed).to(best_device())
        rows = DocumentRows(tokens.documents("train"), context=context, seed=recipe.train.seed)
        plan = fix_plan(run, lambda: make_plan(recipe.train, model, rows, compact_loss=False))
        look = partial(validate, tokens=tokens, tokenizer=tokenizer, context=context)
        looks = Looks(
            validate=partial(look, most_tokens=QUICK_TOKENS),
            sample=partial(continue_prompts, tokenizer=tokenizer, recipe=recipe),
            watch=on_event,
            facts={
                "inputs": inputs,
                "parameters": parameter_count(config),
                "flops_per_token": training_flops_per_token(config, context),
                **(facts or {}),
            },
        )
        train(run, plan, model, rows, looks)
        model.eval()
        files = ModelFiles(
            place=run,
            name=run.name,
            licence=None,
            checkpoint=to_checkpoint(model),
            tokenizer=tokenizer,
            template=None,
        )
        run_folder.finish(run, files, model, plan=plan, inputs=inputs, figures=look(model))
    return run


def validate(
    model: Decoder, *, tokens: TokenSet, tokenizer: Tokenizer, context: int, most_tokens: int | None = None
) -> dict[str, Any]:
    """Loss (nats a token) and bits per byte of the held-out documents, in all and by slice."""
    sizes = token_sizes(tokenizer)
    slices: dict[str, TextLoss] = {}
    for split in tokens.splits:
        if split.startswith("validation"):
            documents = tokens.documents(split)
            texts = (documents.document(index) for index in range(len(documents)))
            name = split.removeprefix("validation").lstrip("-") or "text"
            slices[name] = text_loss(model, texts, sizes, context=context, most_tokens=most_tokens)
    counted = [loss for name, loss in slices.items() if name != APART] or list(slices.values())
    if not counted:
        raise OwnlmError(f"{tokens.folder} holds out no documents; hold out a larger validation_share")
    whole = counted[0]
    for loss in counted[1:]:
        whole = whole + loss
    return {
        "loss": round(whole.loss, 5),
        "bits_per_byte": round(whole.bits_per_byte, 5),
        "slices": {
            name: {"bits_per_byte": round(loss.bits_per_byte, 5), "bytes": loss.bytes} for name, loss in slices.items()
        },
    }


def token_sizes(tokenizer: Tokenizer) -> np.ndarray:
    """Bytes of each id; special tokens stand for no text and have none."""
    special = set(tokenizer.special.values())
    return np.array(
        [0 if id in special else len(tokenizer.token_bytes(id)) for id in range(tokenizer.padded_vocab_size)]
    )


def continue_prompts(model: Decoder, *, tokenizer: Tokenizer, recipe: PretrainRecipe) -> list[tuple[str, str]]:
    """(prompt, continuation) of every text in recipe.watch; the same seed each time, so only the model changes."""
    sampling = Sampling(max_tokens=recipe.sample_tokens, temperature=0.6, min_p=0.05, seed=recipe.train.seed)
    room = recipe.train.context - 1
    requests = [Request(prompt=tokenizer.encode(text)[-room:], sampling=sampling) for text in recipe.watch]
    with evaluating(model):
        answers = complete_at_once(model, tokenizer, [tokenizer.end_of_text_id], requests)
    return [(text, answer.text) for text, answer in zip(recipe.watch, answers, strict=True)]
