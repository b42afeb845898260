"""How a run trains: what a recipe's `train:` section may say."""

from dataclasses import dataclass, field

from ownlm.errors import OwnlmError
from ownlm.train.optim import OptimizerConfig
from ownlm.train.schedule import ScheduleConfig

# As many seeds as every random generator on the way takes.
SEEDS = 2**32
# Beyond any run: the loop holds the step of every look, and packs every row of a step.
_MOST = {"rows": 2**20, "evaluations": 10**6, "samples": 10**6, "snapshots": 10**6}


def check_seed(seed: int) -> None:
    if not 0 <= seed < SEEDS:
        raise OwnlmError(f"seed must be 0 or more and below 2**32, got {seed}")


def check_watch(watch: tuple[str, ...]) -> None:
    if not all(watch):
        raise OwnlmError("watch: a text to continue is empty; give it a word to begin with")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One of `steps` and `minutes` says how long; a step reads `rows` rows of `context` tokens.

    `micro_rows` rows go through the model at once (0: all of them); it changes memory, not the result.
    precision: "auto" takes bfloat16 products where a probe finds them faster. compile: "auto" compiles where
    there is a compiler and the run is long enough to gain by it.
    """

    steps: int | None = None
    minutes: float | None = None
    rows: int = 16
    context: int = 256
    micro_rows: int = 0
    seed: int = 0
    precision: str = "auto"
    compile: str = "auto"
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    evaluations: int = 8
    samples: int = 12
    checkpoint_seconds: float = 30.0
    snapshots: int = 16

    def __post_init__(self) -> None:
        if self.steps is not None and self.minutes is not None:
            raise OwnlmError("train: give steps or minutes, not both; --set train.minutes=null takes one away")
        for length in (self.steps, self.minutes):
            if length is not None and not 0 < length < float("inf"):
                raise OwnlmError("train: steps and minutes must be more than 0")
        if self.micro_rows < 0:
            raise OwnlmError(f"train: micro_rows must be 0 (all rows at once) or more, got {self.micro_rows}")
        check_seed(self.seed)
        for name in ("rows", "context"):
            if getattr(self, name) < 1:
                raise OwnlmError(f"train: {name} must be at least 1, got {getattr(self, name)}")
        for name, most in _MOST.items():
            if not 0 <= getattr(self, name) <= most:
                raise OwnlmError(f"train: {name} must be from 0 to {most:,}, got {getattr(self, name)}")
        for name, choices in {
            "precision": ("auto", "float32", "bfloat16"),
            "compile": ("auto", "always", "never"),
        }.items():
            if getattr(self, name) not in choices:
                raise OwnlmError(f"train: {name} is one of {', '.join(choices)}, got {getattr(self, name)!r}")


@dataclass(frozen=True, kw_only=True)
class TuneOptimizerConfig(OptimizerConfig):
    """What suits a model that has learned already: small steps, by AdamW alone. For a LoRA adapter ten times as large
    ones suit as for all weights (arXiv:2106.09685, appendix D).
    """

    matrix_optimizer: str = "adamw"
    learning_rate: float = 2e-4
    embedding_learning_rate: float = 2e-4
    beta2: float = 0.999
    eps: float = 1e-8


@dataclass(frozen=True, kw_only=True)
class TuneConfig(TrainConfig):
    """As TrainConfig, with the defaults of tuning.

    recompute: keep only what enters each layer, and compute the rest again for the gradient: far less memory, a third
    more time, the same result.
    """

    rows: int = 8
    micro_rows: int = 1
    optimizer: TuneOptimizerConfig = field(default_factory=TuneOptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(warmup=0.05, decay=0.5))
    recompute: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run will do, all of it decided: kept in run.json, and what a resumed run goes on with."""

    steps: int
    rows: int
    micro_rows: int
    context: int
    seed: int
    threads: int
    device: str
    precision: str
    compile: bool
    compact_loss: bool
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    evaluations: int
    samples: int
    checkpoint_seconds: float
    snapshots: int

    @property
    def tokens(self) -> int:
        return self.steps * self.rows * self.context
