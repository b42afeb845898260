"""Fine-tuning: a model in, one that answers as the conversations do out.

model + train.jsonl ──rows──▶ loss on what is to be learned ──▶ loop (run folder) ──▶ model folder, or adapter folder

All weights are trained, or some are frozen, or a LoRA adapter is trained beside weights that stand still.
"""

import hashlib
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ownlm.artefact import Watch, folder_lock, read_card
from ownlm.model.locate import is_path, locate, verified_content
from ownlm.opened.files import read_files
from ownlm.train import run_folder
from ownlm.train.checkpoint import checkpoints
from ownlm.train.conversations import ConversationRows, read_conversations, render_examples
from ownlm.train.finetune_recipe import FinetuneRecipe
from ownlm.train.loop import Looks, fix_plan, train
from ownlm.train.mixture import tuning_rows
from ownlm.train.plan import expected, make_plan, measured
from ownlm.train.render import Example
from ownlm.train.trainable import chat_template, make_trainable, with_wishes
from ownlm.train.tuning_looks import answer_questions, beside, check_questions, validate


def finetune(recipe: FinetuneRecipe, *, on_event: Watch = lambda event: None) -> Path:
    """Tune by `recipe`, or go on with it; returns the model's or the adapter's folder.

    Raises loop.Stopped when asked to stop.
    """
    run = Path(recipe.out)
    with folder_lock(run):
        run_folder.begin(run, recipe)
        if run_folder.is_finished(run):
            return run
        place = locate(recipe.model)
        files = with_wishes(read_files(place), recipe)
        data = recipe.data(run)
        made = read_card(data)
        inputs = {"base": verified_content(place), "conversations": made.content}
        template = chat_template(files)
        model, adapter = make_trainable(files, recipe)
        check_questions(recipe.ask, template, model.config.max_position_embeddings)
        context, seed = recipe.train.context, recipe.train.seed
        rendered = partial(render_examples, template=template, context=context, tokenizer=files.tokenizer)
        examples, counts = rendered(read_conversations(data / "train.jsonl"))
        held_out, _ = rendered(read_conversations(data / "validation.jsonl"))
        replayed: list[Example] = []
        if (known := recipe.replay_data(run)) is not None:
            inputs["replay"] = read_card(known).content
            replayed, _ = rendered(read_conversations(known / "train.jsonl"))
        rows = tuning_rows(examples, replayed, share=recipe.replay_share, context=context, seed=seed)
        if recipe.chat_template is not None and template is not None:
            inputs["chat_template"] = hashlib.sha256((template.jinja or "").encode()).hexdigest()
        facts: dict[str, Any] = {"conversations": asdict(counts)}
        if (personal := made.figures.get("personal_data")) is not None:
            facts["personal_data"] = personal
        seconds = None
        if not checkpoints(run):
            seconds = measured(recipe.train, model, rows, compact_loss=True, trained=adapter)
        plan = fix_plan(
            run, lambda: make_plan(recipe.train, model, rows, compact_loss=True, trained=adapter, seconds=seconds)
        )
        if seconds is not None:
            trained = adapter or model
            facts["expected"] = expected(plan, seconds, trained, kept=sum(map(_bytes, trained.parameters())))
        look = beside(partial(validate, rows=ConversationRows(held_out, context=context, seed=0)), adapter)
        sample = beside(partial(answer_questions, template=template, recipe=recipe), adapter)
        looks = Looks(
            validate=look,
            sample=sample if recipe.ask else None,
            watch=on_event,
            facts={"inputs": inputs, **facts},
        )
        train(run, plan, model, rows, looks, trained=adapter)
        model.eval()
        # What the loop saw last, it saw after the last step.
        last = run_folder.last_validation(run) if plan.evaluations else look(model)
        figures = {**facts, "base": place.name if is_path(recipe.model) else recipe.model, "validation": last}
        files = replace(files, template=template)
        if adapter is None:
            run_folder.finish(run, files, model, plan=plan, inputs=inputs, figures=figures)
        else:
            base = run_folder.as_seen_from(run, recipe.model)
            run_folder.finish_adapter(run, files, adapter, base=base, plan=plan, inputs=inputs, figures=figures)
    return run


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
