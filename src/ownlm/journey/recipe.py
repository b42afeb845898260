"""The quickstart's recipe, and the plan that follows from it on this machine.

recipe.yaml + options ──▶ QuickstartRecipe ──probe──▶ JourneyPlan (journey.json: fixed at the first start)
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ownlm.artefact.recipe import packaged_recipe, parse_recipe, read_recipe
from ownlm.corpus import CorpusConfig
from ownlm.corpus.conversations import ConversationsConfig
from ownlm.corpus.make_tokenizer import TokenizerConfig
from ownlm.errors import OwnlmError
from ownlm.machine import best_device
from ownlm.model import Decoder, ModelShape, affordable_depth, initialise, training_flops_per_token
from ownlm.train.config import TrainConfig, TuneConfig, check_seed, check_watch
from ownlm.train.probe_speed import training_flops_per_second

# Minutes that gathering, tokenizing, exams and the report take, and the share of a short journey they may take at most.
OVERHEAD_MINUTES = 1.2
MOST_OVERHEAD = 0.4
# --steps fixes the journey outright: the tuning then takes this share of the pretraining's steps.
FINETUNE_STEPS_SHARE = 0.5
DEFAULT_DEPTH = 4
# The default corpus is cut to what will be read about once, the standard library first: a short run that read
# here and there in a large corpus would see little of what it is examined on. Bytes a token are a round guess.
BYTES_PER_TOKEN = 3.2
LEAST_MEGABYTES, MOST_MEGABYTES = 2.0, 16.0
# What a model of the user's own text continues, unless told.
PROSE_WATCH = ("The", "She said")


Stage = TypeVar("Stage", bound=TrainConfig)


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Of the training minutes."""

    pretrain: float = 0.58
    finetune: float = 0.32
    control: float = 0.10

    def __post_init__(self) -> None:
        if min(self.pretrain, self.finetune) <= 0 or self.control < 0:
            raise OwnlmError("shares: pretrain and finetune must be above 0, control 0 or more")


@dataclass(frozen=True, kw_only=True)
class QuickstartRecipe:
    """Mirrors recipes/quickstart.yaml."""

    minutes: float = 10.0
    steps: int | None = None
    seed: int = 0
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    chat: Path | None = None
    conversations: int = ConversationsConfig.conversations
    depth: int | None = None
    pretrain: TrainConfig = field(default_factory=TrainConfig)
    finetune: TuneConfig = field(default_factory=TuneConfig)
    shares: Shares = field(default_factory=Shares)
    watch: tuple[str, ...] = ("Return the", "def")
    ask: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.minutes < float("inf"):
            raise OwnlmError(f"minutes must be more than 0, got {self.minutes}")
        if self.steps is not None and self.steps < 1:
            raise OwnlmError(f"steps must be at least 1, got {self.steps}")
        for name, stage in (("pretrain", self.pretrain), ("finetune", self.finetune)):
            if stage.steps is not None or stage.minutes is not None:
                raise OwnlmError(f"{name}: how long is said for the whole journey: set minutes or steps at the top")
            if stage.seed:
                raise OwnlmError(f"{name}: one seed decides the whole journey: set it at the top")
        if self.finetune.context > self.pretrain.context:
            raise OwnlmError(
                f"finetune: context {self.finetune.context} is longer than pretrain's {self.pretrain.context}; lower it"
            )
        if self.depth is not None and self.depth < 1:
            raise OwnlmError(f"depth must be at least 1, got {self.depth}")
        check_seed(self.seed)
        check_watch(self.watch)
        if self.corpus.seed:
            raise OwnlmError("corpus: one seed decides the whole journey: set it at the top")


@dataclass(frozen=True, kw_only=True)
class QuickstartOptions:
    """What the command line may override; None leaves the recipe's value. `base`: an open model to begin from."""

    base: str | None = None
    recipe: Path | None = None
    minutes: float | None = None
    steps: int | None = None
    seed: int | None = None
    text: str | None = None
    chat: Path | None = None
    depth: int | None = None
    watch: tuple[str, ...] = ()
    set: tuple[str, ...] = ()

    @property
    def given(self) -> bool:
        return self != QuickstartOptions()


@dataclass(frozen=True, kw_only=True)
class JourneyPlan:
    """Fixed at the first start and kept: a rerun goes on with it, on whatever machine."""

    depth: int
    pretrain_minutes: float | None
    finetune_minutes: float | None
    control_minutes: float | None
    pretrain_steps: int | None
    finetune_steps: int | None
    text_megabytes: float
    why: str


def default_recipe() -> str:
    """The text of recipes/quickstart.yaml."""
    return packaged_recipe("quickstart")


def _repeatable(stage: Stage) -> Stage:
    """With a fixed number of steps no measurement may decide anything: not the precision either."""
    return replace(stage, precision="float32") if stage.precision == "auto" else stage


def resolve(options: QuickstartOptions) -> QuickstartRecipe:
    """The recipe with the options in it."""
    if options.minutes is not None and options.steps is not None:
        raise OwnlmError("--minutes and --steps both say how long; give one of them")
    if options.recipe is not None:
        recipe = read_recipe(options.recipe, QuickstartRecipe, options.set)
    else:
        recipe = parse_recipe(default_recipe(), QuickstartRecipe, options.set, name="quickstart.yaml")
    plain = {name: getattr(options, name) for name in ("minutes", "steps", "seed", "chat", "depth")}
    recipe = replace(recipe, **{name: value for name, value in plain.items() if value is not None})
    if options.text is not None:
        recipe = replace(recipe, corpus=replace(recipe.corpus, text=options.text))
    if options.watch:
        recipe = replace(recipe, watch=options.watch)
    if options.minutes is not None:
        recipe = replace(recipe, steps=None)
    if recipe.steps is not None:
        recipe = replace(recipe, pretrain=_repeatable(recipe.pretrain), finetune=_repeatable(recipe.finetune))
    if not options.watch and recipe.corpus.text is not None and recipe.watch == QuickstartRecipe().watch:
        recipe = replace(recipe, watch=PROSE_WATCH)
    return recipe


def make_journey_plan(recipe: QuickstartRecipe) -> JourneyPlan:
    """Decide size and length. Takes a few seconds when the recipe speaks of minutes: the machine is measured."""
    if recipe.steps is not None:
        depth = recipe.depth or DEFAULT_DEPTH
        return JourneyPlan(
            depth=depth,
            pretrain_minutes=None,
            finetune_minutes=None,
            control_minutes=None,
            pretrain_steps=recipe.steps,
            finetune_steps=max(1, round(recipe.steps * FINETUNE_STEPS_SHARE)),
            text_megabytes=_megabytes(recipe.steps * recipe.pretrain.rows * recipe.pretrain.context),
            why=f"{recipe.steps} steps of pretraining, depth {depth}",
        )
    training = recipe.minutes - min(OVERHEAD_MINUTES, MOST_OVERHEAD * recipe.minutes)
    shares = recipe.shares
    if recipe.corpus.text is not None or recipe.chat is not None:
        # Without the docstrings' exam there is nothing to compare a control on.
        shares = replace(shares, control=0.0)
    total = shares.pretrain + shares.finetune + shares.control
    minutes = {name: training * share / total for name, share in vars(shares).items()}
    context, vocab = recipe.pretrain.context, -(-recipe.tokenizer.vocab_size // 64) * 64
    speed = _measured_speed(vocab, recipe.pretrain)
    flops = speed * minutes["pretrain"] * 60
    depth = recipe.depth or affordable_depth(flops=flops, vocab_size=vocab, context=context)
    shape = ModelShape(depth=depth).config(vocab_size=vocab, context=context)
    return JourneyPlan(
        depth=depth,
        pretrain_minutes=round(minutes["pretrain"], 3),
        finetune_minutes=round(minutes["finetune"], 3),
        control_minutes=round(minutes["control"], 3),
        pretrain_steps=None,
        finetune_steps=None,
        text_megabytes=_megabytes(flops / training_flops_per_token(shape, context)),
        why=(
            f"this machine trains at {speed / 1e9:.0f} GFLOP/s: {minutes['pretrain']:.1f} minutes of pretraining "
            f"feed a model of depth {depth}"
        ),
    )


def _megabytes(tokens: float) -> float:
    return round(min(MOST_MEGABYTES, max(LEAST_MEGABYTES, tokens * BYTES_PER_TOKEN / 1e6)), 2)


def _measured_speed(vocab_size: int, config: TrainConfig) -> float:
    shape = ModelShape(depth=DEFAULT_DEPTH).config(vocab_size=vocab_size, context=config.context)
    model = initialise(Decoder(shape), 0).to(best_device())
    return training_flops_per_second(model, config, training_flops_per_token(shape, config.context))
