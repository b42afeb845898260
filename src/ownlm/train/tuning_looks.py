"""What is looked at while a model is tuned: the loss on held-out answers, and what it says to questions."""

from collections.abc import Callable, Sequence
from textwrap import shorten
from typing import Any, TypeVar

import torch

from ownlm.engine import Request, Sampling, complete_at_once
from ownlm.errors import OwnlmError
from ownlm.model import Decoder, evaluating
from ownlm.model.lora import LoraAdapter, adapted
from ownlm.opened.files import Template
from ownlm.train.conversations import ConversationRows
from ownlm.train.finetune_recipe import FinetuneRecipe
from ownlm.train.loss import token_loss

T = TypeVar("T")
# A look at held-out answers while it trains reads so many tokens: always the same ones.
QUICK_TOKENS, _LOOK_BATCHES = 8192, 4


def beside(look: Callable[[Decoder], T], adapter: LoraAdapter | None) -> Callable[[Decoder], T]:
    """`look` at the model as it is with `adapter` beside it."""

    def looked(model: Decoder) -> T:
        with adapted(model, [(slice(None), adapter)] if adapter else []):
            return look(model)

    return looked


@torch.inference_mode()
def validate(model: Decoder, *, rows: ConversationRows, most_tokens: int = QUICK_TOKENS) -> dict[str, Any]:
    """Nats a token of held-out answers: of the first rows of them, about `most_tokens` tokens."""
    total, count = 0.0, 0
    batch_rows = max(1, most_tokens // (_LOOK_BATCHES * rows.context))
    with evaluating(model):
        for number in range(_LOOK_BATCHES):
            loss = token_loss(model, rows.batch(number * batch_rows, batch_rows).to(model.device), compact=True)
            total, count = total + float(loss.total), count + int(loss.count)
    return {"loss": round(total / count, 5)}


def check_questions(ask: Sequence[str], template: Template | None, context: int) -> None:
    """Refuse at the start what would fail at the first sample: a question that leaves no room for an answer."""
    for question in ask:
        if template is None:
            raise OwnlmError(
                "ask: the model has no chat template to be asked by; name one, chat_template: chatml, or leave ask out"
            )
        if (length := len(template.question(question))) >= context:
            raise OwnlmError(
                f"ask: {shorten(question, 40, placeholder='...')!r} has {length} tokens, the model's context is "
                f"{context}; shorten it"
            )


def answer_questions(model: Decoder, *, template: Template | None, recipe: FinetuneRecipe) -> list[tuple[str, str]]:
    """(question, greedy answer) of every question in recipe.ask."""
    assert template is not None, "check_questions lets none through"
    sampling = Sampling(max_tokens=recipe.answer_tokens, temperature=0)
    requests = [Request(prompt=template.question(question), sampling=sampling) for question in recipe.ask]
    with evaluating(model):
        answers = complete_at_once(model, template.tokenizer, template.stop_ids, requests)
    return [(question, answer.text) for question, answer in zip(recipe.ask, answers, strict=True)]
