"""The quickstart's second door: an open model, tuned on the user's own documents, asked before and after.

documents ──▶ corpus/, conversations/ ──▶ LoRA ──▶ chat/ (an adapter) ──▶ chat/evaluation/ ──▶ the chat
"""

import json
from dataclasses import replace
from pathlib import Path

from ownlm.artefact import folder_lock, read_card, write_atomically
from ownlm.artefact.card import CARD_NAME
from ownlm.artefact.recipe import packaged_recipe, parse_recipe
from ownlm.corpus.conversations import ConversationsConfig, build_conversations, told
from ownlm.errors import OwnlmError
from ownlm.evaluation.run import Progress
from ownlm.journey.narrator import Narrator
from ownlm.journey.recipe import QuickstartOptions
from ownlm.journey.tune import EVALUATION, TuneRecipe, tune
from ownlm.train import run_folder
from ownlm.train.data import conversations_of
from ownlm.train.run_folder import as_seen_from

RECIPE, MODEL, CONVERSATIONS, SOURCE = "your-documents", "chat", "conversations", "source.txt"
# What is left of the minutes is for reading the documents, and for asking before and after.
TRAINING_SHARE = 0.6
STAGES = 3
# Of the conversations about Python that are made where no documents are given: more than minutes can read.
_PYTHON_CONVERSATIONS = 4000


def is_based(run: Path) -> bool:
    """Whether `run` was begun through this door."""
    return (run / SOURCE).is_file()


def is_measured(run: Path) -> bool:
    return (run / MODEL / EVALUATION / CARD_NAME).is_file()


def quickstart_from(run: Path, options: QuickstartOptions, narrator: Narrator, *, progress: Progress | None) -> Path:
    """Tune options.base on options.text or options.chat; returns `run`. Raises train.Stopped when asked to stop."""
    recipe = based_recipe(run, options)
    narrator.stages = STAGES
    with folder_lock(run):
        _note_source(run, options)
        narrator.stage(1, "Reading your documents", "It will learn their words and their manner, hardly their facts.")
        conversations = _conversations(run, options, recipe.train.seed)
        recipe = replace(recipe, conversations=str(conversations))
        for line in told(read_card(conversations).figures):
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
    if options.text is not None and options.chat is not None:
        raise OwnlmError("--text and --chat both say what is learned beside --base; give one of them")
    out, conversations = str(run / MODEL), str(run / CONVERSATIONS)
    ours = (f"out={_quoted(out)}", f"conversations={_quoted(conversations)}", "documents=null")
    set_ = (*ours, *options.set)
    recipe = parse_recipe(packaged_recipe(RECIPE), TuneRecipe, set_, name=f"{RECIPE}.yaml")
    if (recipe.out, recipe.conversations, recipe.documents) != (out, conversations, None):
        raise OwnlmError(
            "--set: beside --base what is learned is named by --text or --chat, and the folder by --out; leave it out"
        )
    train = replace(recipe.train, seed=options.seed or recipe.train.seed)
    if options.steps is not None:
        train = replace(train, steps=options.steps, minutes=None, precision="float32")
    elif options.minutes is not None:
        train = replace(train, minutes=options.minutes * TRAINING_SHARE)
    return replace(recipe, model=options.base, train=train)


def _quoted(path: str) -> str:
    """For --set: a folder's name may hold what YAML reads otherwise, such as " #"."""
    return json.dumps(path, ensure_ascii=False)


def _note_source(run: Path, options: QuickstartOptions) -> None:
    """What is learned, noted before anything else; other texts, or a folder of something else, are refused."""
    path, given = run / SOURCE, options.text or options.chat
    if given is None and path.is_file():
        return
    source = "Python" if given is None else as_seen_from(run, str(given))
    if path.is_file():
        if _is_planned(run) and path.read_text(encoding="utf-8").strip() != source:
            raise OwnlmError(f"{run} was begun with other texts; go on with these, or name another --out")
    elif any(not child.name.startswith(".") for child in run.iterdir()):
        raise OwnlmError(f"{run} holds something else than a tuned open model; name another --out")
    write_atomically(path, source + "\n")


def _is_planned(run: Path) -> bool:
    return run_folder.is_planned(run / MODEL)


def _conversations(run: Path, options: QuickstartOptions, seed: int) -> Path:
    if options.chat is not None or options.text is not None:
        chat = None if options.chat is None else str(options.chat)
        return conversations_of(
            run, CONVERSATIONS, keep=_is_planned(run), conversations=chat, documents=options.text, seed=seed
        )
    if not (run / CONVERSATIONS / CARD_NAME).is_file():
        build_conversations(
            run / CONVERSATIONS, ConversationsConfig(conversations=_PYTHON_CONVERSATIONS, validation=100, seed=seed)
        )
    return run / CONVERSATIONS
