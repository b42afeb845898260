"""Fine-tuning on conversations: a base model in, a model that answers out.

base/ + train.jsonl ──rows──▶ loss on the assistant's tokens ──▶ loop (run folder) ──▶ chat model folder
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from ownlm.artefact import Watch, folder_lock, verify_artefact
from ownlm.engine import Request, Sampling, complete_at_once
from ownlm.errors import OwnlmError
from ownlm.machine import best_device
from ownlm.model import Decoder, evaluating, initialise
from ownlm.model.load import read_decoder
from ownlm.model.locate import locate, verified_content
from ownlm.tokenizer import ChatTemplate, Tokenizer
from ownlm.train import run_folder
from ownlm.train.config import TrainConfig
from ownlm.train.conversations import ConversationRows, read_conversations, render_examples
from ownlm.train.loop import Looks, fix_plan, train
from ownlm.train.loss import token_loss
from ownlm.train.plan import make_plan


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe:
    """`model`: any MODEL (see model.locate); `conversations`: a folder with train.jsonl and validation.jsonl.

    `ask`: questions that are answered now and then while it trains. `from_scratch` throws the base's weights away:
    a control that shows what pretraining is for.
    """

    model: str
    conversations: str
    out: str
    train: TrainConfig
    ask: tuple[str, ...] = ()
    answer_tokens: int = 48
    from_scratch: bool = False


def finetune(recipe: FinetuneRecipe, *, on_event: Watch = lambda event: None) -> Path:
    """Tune by `recipe`, or go on with it; returns the model's folder. Raises loop.Stopped when asked to stop."""
    run, data = Path(recipe.out), Path(recipe.conversations)
    with folder_lock(run):
        run_folder.begin(run, recipe)
        if run_folder.is_finished(run):
            return run
        base = locate(recipe.model)
        if base.is_file():
            raise OwnlmError(f"{base} is a GGUF file, which cannot be tuned yet; name a model folder")
        conversations = verify_artefact(data, "conversations")
        inputs = {"base": verified_content(base), "conversations": conversations.content}
        model = read_decoder(base, device=best_device())
        if recipe.from_scratch:
            initialise(model, recipe.train.seed)
        tokenizer = Tokenizer.load(base)
        if not tokenizer.own:
            # It would be trained on our chat format and be talked to in its own.
            raise OwnlmError(
                f"{base} has another's tokenizer and chat format, which cannot be tuned yet; name one of ours"
            )
        template = ChatTemplate(tokenizer)
        context = recipe.train.context
        if context > model.config.max_position_embeddings:
            raise OwnlmError(
                f"train: context {context} is longer than the model's {model.config.max_position_embeddings}; lower it"
            )
        check_questions(recipe.ask, template, model.config.max_position_embeddings)
        examples, counts = render_examples(read_conversations(data / "train.jsonl"), template, context=context)
        held_out, _ = render_examples(read_conversations(data / "validation.jsonl"), template, context=context)
        rows = ConversationRows(examples, context=context, seed=recipe.train.seed)
        plan = fix_plan(run, lambda: make_plan(recipe.train, model, rows, compact_loss=True))
        look = partial(validate, rows=ConversationRows(held_out, context=context, seed=0))
        looks = Looks(
            validate=look,
            sample=partial(answer_questions, template=template, recipe=recipe) if recipe.ask else None,
            watch=on_event,
            facts={"conversations": asdict(counts)},
        )
        train(run, plan, model, rows, looks)
        model.eval()
        figures = {"conversations": asdict(counts), "validation": look(model)}
        run_folder.finish(run, "chat model", model, tokenizer, plan=plan, inputs=inputs, figures=figures)
    return run


@torch.inference_mode()
def validate(model: Decoder, *, rows: ConversationRows, batches: int = 4, batch_rows: int = 8) -> dict[str, Any]:
    """Nats a token of held-out answers: of the first batches * batch_rows rows of them."""
    total, count = 0.0, 0
    with evaluating(model):
        for number in range(batches):
            loss = token_loss(model, rows.batch(number * batch_rows, batch_rows).to(model.device), compact=True)
            total, count = total + float(loss.total), count + int(loss.count)
    return {"loss": round(total / count, 5)}


def check_questions(ask: Sequence[str], template: ChatTemplate, context: int) -> None:
    """Refuse at the start what would fail at the first sample: a question that leaves no room for an answer."""
    for question in ask:
        if (length := len(template.question(question))) >= context:
            raise OwnlmError(
                f"ask: {shorten(question, 40, placeholder='...')!r} has {length} tokens, the model's context is "
                f"{context}; shorten it"
            )


def answer_questions(model: Decoder, *, template: ChatTemplate, recipe: FinetuneRecipe) -> list[tuple[str, str]]:
    """(question, greedy answer) of every question in recipe.ask."""
    sampling = Sampling(max_tokens=recipe.answer_tokens, temperature=0)
    requests = [Request(prompt=template.question(question), sampling=sampling) for question in recipe.ask]
    with evaluating(model):
        answers = complete_at_once(model, template.tokenizer, template.stop_ids, requests)
    return [(question, answer.text) for question, answer in zip(recipe.ask, answers, strict=True)]
