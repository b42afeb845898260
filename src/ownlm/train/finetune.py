"""Fine-tuning: a model in, one that answers as the conversations do out.

model + train.jsonl ──rows──▶ loss on what is to be learned ──▶ loop (run folder) ──▶ model folder, or adapter folder

All weights are trained, or some are frozen, or a LoRA adapter is trained beside weights that stand still.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar

import torch

from ownlm.artefact import Watch, folder_lock, read_card
from ownlm.engine import Request, Sampling, complete_at_once
from ownlm.errors import OwnlmError
from ownlm.machine import best_device
from ownlm.model import Decoder, evaluating, initialise
from ownlm.model.locate import is_path, locate, verified_content
from ownlm.model.lora import LoraAdapter, adapted
from ownlm.model.lora_pair import LoraConfig
from ownlm.opened.build import build
from ownlm.opened.files import ModelFiles, Template, read_files
from ownlm.opened.surgery import add_tokens, with_chat_template
from ownlm.tokenizer import ChatTemplate
from ownlm.train import run_folder
from ownlm.train.checkpoint import checkpoints
from ownlm.train.config import TuneConfig
from ownlm.train.conversations import ConversationRows, read_conversations, render_examples
from ownlm.train.data import conversations_of
from ownlm.train.loop import Looks, fix_plan, train
from ownlm.train.loss import token_loss
from ownlm.train.mixture import tuning_rows
from ownlm.train.plan import expected, make_plan, measured
from ownlm.train.render import Example

T = TypeVar("T")
# A look at held-out answers while it trains reads so many tokens: always the same ones.
QUICK_TOKENS, _LOOK_BATCHES = 8192, 4


@dataclass(frozen=True, kw_only=True)
class LoraTuning:
    """A LoRA adapter of `rank`, its change scaled by alpha / rank (rank_stabilised: alpha / sqrt(rank)).

    `dora`: each row's length is learned apart from its direction (arXiv:2402.09353).
    `modules`: the last part of the names of the layers that get one, such as q_proj; none named: every linear layer.
    quantize: "blocks" keeps the model's layers in 4 bits beside it (QLoRA, arXiv:2305.14314): less memory, more time.
    """

    rank: int = 16
    alpha: float = 32.0
    rank_stabilised: bool = False
    dora: bool = False
    modules: tuple[str, ...] = ()
    quantize: str = "none"

    def __post_init__(self) -> None:
        if self.quantize not in ("none", "blocks"):
            raise OwnlmError(f"lora: quantize is one of none, blocks, got {self.quantize!r}")
        if self.rank < 1:
            raise OwnlmError(f"lora: rank must be at least 1, got {self.rank}")
        if not 0 < self.alpha <= 1e6:
            raise OwnlmError(f"lora: alpha must be more than 0, and at most 1e6, got {self.alpha}")


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe:
    """`model`: any MODEL (see model.locate); `conversations`: a folder that `ownlm corpus conversations` wrote, or a
    data file, of which lines with one value of the field `group` are never both trained and held out; or, in their
    stead, `documents`: a folder. `replay`: as conversations, of what the model is not to forget; `replay_share` of the
    rows are its.

    `chat_template`: "chatml" or a Jinja file, for a model that was never tuned to chat, or instead of its own.
    `add_tokens`: new special tokens, whose rows begin as the mean of the others; an adapter holds them.
    `lora`: train an adapter instead of the weights. `freeze`: parameters that stand still, by their names in a Hugging
    Face folder, * for anything. `ask`: questions that are answered now and then while it trains. `from_scratch` throws
    the base's weights away: a control that shows what pretraining is for.
    """

    model: str
    out: str
    train: TuneConfig
    conversations: str | None = None
    documents: str | None = None
    group: str | None = None
    chat_template: str | None = None
    add_tokens: tuple[str, ...] = ()
    lora: LoraTuning | None = None
    freeze: tuple[str, ...] = ()
    replay: str | None = None
    replay_share: float = 0.1
    ask: tuple[str, ...] = ()
    answer_tokens: int = 48
    from_scratch: bool = False

    def __post_init__(self) -> None:
        for name in ("model", "out", "conversations", "documents", "replay", "chat_template"):
            if getattr(self, name) == "":
                raise OwnlmError(f"{name} is empty; name a file or a folder, or leave it out")
        if self.lora is not None and self.freeze:
            raise OwnlmError("freeze: beside an adapter every weight stands still already; leave freeze or lora out")
        if (self.conversations is None) == (self.documents is None):
            raise OwnlmError("give conversations, a data file or folder, or documents, a folder of texts: one of them")
        if self.group is not None and self.conversations is None:
            raise OwnlmError("group: documents have no fields; leave group out")
        if not 0 < self.replay_share < 1:
            raise OwnlmError(f"replay_share is a share of the rows, above 0 and below 1, got {self.replay_share}")
        if self.lora is not None and self.from_scratch:
            raise OwnlmError("from_scratch: an adapter needs a model that has learned; leave from_scratch or lora out")

    def data(self, run: Path) -> Path:
        """The conversations' folder, made in `run` where it is not one already."""
        return conversations_of(
            run,
            "conversations",
            keep=run_folder.is_planned(run),
            conversations=self.conversations,
            documents=self.documents,
            group=self.group,
            seed=self.train.seed,
        )

    def replay_data(self, run: Path) -> Path | None:
        """The same of what is not to be forgotten, if there is such."""
        if self.replay is None:
            return None
        return conversations_of(run, "replay", keep=run_folder.is_planned(run), conversations=self.replay)


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
