"""The model of a fine-tuning: with the tokens and the template that it is to have, and no more of it to be trained.

recipe, model's files ──with_wishes──▶ files ──make_trainable──▶ decoder, some of it frozen; or all, and an adapter
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ownlm.errors import OwnlmError
from ownlm.machine import best_device
from ownlm.model import Decoder, initialise
from ownlm.model.lora import LoraAdapter
from ownlm.model.lora_pair import LoraConfig
from ownlm.opened.build import build
from ownlm.opened.files import ModelFiles, Template
from ownlm.opened.surgery import add_tokens, with_chat_template
from ownlm.tokenizer import ChatTemplate
from ownlm.train.finetune_recipe import FinetuneRecipe


def with_wishes(files: ModelFiles, recipe: FinetuneRecipe) -> ModelFiles:
    """The model with the tokens and the chat template that the recipe wants."""
    if recipe.add_tokens:
        files = add_tokens(files, recipe.add_tokens)
    if recipe.chat_template is not None:
        files = with_chat_template(files, recipe.chat_template)
    return files


def chat_template(files: ModelFiles) -> Template | None:
    """The form in which the model is to be talked to: its own, or ours for one of ours that has none yet.

    None: it learns documents alone.
    """
    return files.template or (ChatTemplate(files.tokenizer) if files.tokenizer.own else None)


def make_trainable(files: ModelFiles, recipe: FinetuneRecipe) -> tuple[Decoder, LoraAdapter | None]:
    """The decoder, of which no more is to be trained than the recipe says, and the adapter if there is to be one."""
    if files.adapter is not None and recipe.lora is not None:
        raise OwnlmError(f"{files.place} is an adapter itself; merge it first: ownlm convert {files.place} NEW")
    try:
        four_bits = recipe.lora is not None and recipe.lora.quantize == "blocks"
        model = build(files, device=best_device(), four_bits=four_bits)
    except OwnlmError as error:
        raise type(error)(f"{files.place}: {error}") from None
    context, longest = recipe.train.context, model.config.max_position_embeddings
    if context > longest:
        raise OwnlmError(f"train: context {context} is longer than the model's {longest}; lower it")
    if recipe.from_scratch:
        initialise(model, recipe.train.seed)
    model.recompute = recipe.train.recompute
    if recipe.lora is None:
        freeze(model, recipe.freeze)
        return model, None
    lora = recipe.lora
    config = LoraConfig(rank=lora.rank, alpha=lora.alpha, rank_stabilised=lora.rank_stabilised, dora=lora.dora)
    # Standing still, its weights can be packed as for answers.
    model.pack()
    known = files.tokenizer.vocab_size
    tokens = range(known - files.new_tokens, known)
    return model, LoraAdapter.new(model, config, modules=lora.modules, tokens=tokens, seed=recipe.train.seed)


def freeze(model: Decoder, patterns: Sequence[str]) -> None:
    """Parameters that fit one of `patterns` stand still. A tied head is the embedding."""
    names = dict(model.named_parameters())
    for pattern in patterns:
        fitting = [name for name in names if fnmatchcase(name, pattern)]
        if not fitting:
            raise OwnlmError(f"freeze: no parameter is named {pattern}; they are named as {next(iter(names))}")
        for name in fitting:
            names[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise OwnlmError("freeze: nothing is left to train; leave a pattern out")
