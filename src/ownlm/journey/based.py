"""The quickstart's second door: an open model, tuned on the user's own documents, asked before and after.

documents ──▶ corpus/, conversations/ ──▶ LoRA ──▶ chat/ (an adapter) ──▶ chat/evaluation/ ──▶ the chat
"""

from dataclasses import replace
from pathlib import Path

from ownlm.artefact import folder_lock, read_card
from ownlm.artefact.card import CARD_NAME
from ownlm.artefact.recipe import packaged_recipe, parse_recipe
from ownlm.corpus.conversations import ConversationsConfig, build_conversations, told
from ownlm.errors import OwnlmError
from ownlm.evaluation.run import Progress
from ownlm.journey.narrator import Narrator
from ownlm.journey.recipe import QuickstartOptions
from ownlm.journey.tune import EVALUATION, TuneRecipe, tune
from ownlm.train.data import conversations_of

RECIPE, MODEL, CONVERSATIONS = "your-documents", "chat", "conversations"
# What is left of the minutes is for reading the documents, and for asking before and after.
TRAINING_SHARE = 0.6
STAGES = 3
# Of the conversations about Python that are made where no documents are given: more than minutes can read.
_PYTHON_CONVERSATIONS = 4000


def is_based(run: Path) -> bool:
    """Whether `run` was begun through this door."""
    return (run / CONVERSATIONS / CARD_NAME).is_file() and not (run / "tokenizer").exists()


def is_finished(run: Path) -> bool:
    return (run / MODEL / EVALUATION / CARD_NAME).is_file()


def quickstart_from(run: Path, options: QuickstartOptions, narrator: Narrator, *, progress: Progress | None) -> Path:
    """Tune options.base on options.text or options.chat; returns `run`. Raises train.Stopped when asked to stop."""
    recipe = based_recipe(run, options)
    narrator.stages = STAGES
    with folder_lock(run):
        narrator.stage(1, "Reading your documents", "It will learn their words and their manner, hardly their facts.")
        _conversations(run, options, recipe.train.seed)
        for line in told(read_card(run / CONVERSATIONS).figures):
            narrator.say(line)
        narrator.stage(
            2, f"Tuning {recipe.model}", "Small matrices beside its weights learn; the weights themselves stand still."
        )
        try:
            _, found = tune(recipe, on_event=lambda event: narrator.training("finetune", event), progress=progress)
        finally:
            narrator.trained("finetune")
        narrator.stage(3, "Before and after", "The same questions, none of them trained, asked of both.")
        if found is not None:
            narrator.measured(found)
    return run


def based_recipe(run: Path, options: QuickstartOptions) -> TuneRecipe:
    """The packaged recipe for documents, with the options in it."""
    assert options.base is not None
    for name in ("depth", "watch", "recipe"):
        if getattr(options, name):
            raise OwnlmError(f"--{name} is for a model that is made from nothing; leave it out beside --base")
    if options.minutes is not None and options.steps is not None:
        raise OwnlmError("--minutes and --steps both say how long; give one of them")
    set_ = (f"out={run / MODEL}", f"conversations={run / CONVERSATIONS}", "documents=null", *options.set)
    recipe = parse_recipe(packaged_recipe(RECIPE), TuneRecipe, set_, name=f"{RECIPE}.yaml")
    train = replace(recipe.train, seed=options.seed or recipe.train.seed)
    if options.steps is not None:
        train = replace(train, steps=options.steps, minutes=None, precision="float32")
    elif options.minutes is not None:
        train = replace(train, minutes=options.minutes * TRAINING_SHARE)
    return replace(recipe, model=options.base, train=train)


def _conversations(run: Path, options: QuickstartOptions, seed: int) -> None:
    if options.chat is not None or options.text is not None:
        chat = None if options.chat is None else str(options.chat)
        documents = options.text if options.chat is None else None
        conversations_of(run, CONVERSATIONS, conversations=chat, documents=documents, seed=seed)
    elif not (run / CONVERSATIONS / CARD_NAME).is_file():
        build_conversations(
            run / CONVERSATIONS, ConversationsConfig(conversations=_PYTHON_CONVERSATIONS, validation=100, seed=seed)
        )
