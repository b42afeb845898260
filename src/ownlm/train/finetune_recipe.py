"""What a fine-tuning is told: the model, the data, and what of the model is trained."""

from dataclasses import dataclass
from pathlib import Path

from ownlm.errors import OwnlmError
from ownlm.train import run_folder
from ownlm.train.config import TuneConfig
from ownlm.train.data import conversations_of


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
