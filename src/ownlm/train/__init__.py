"""Training: rows in, a run folder and a model out."""

from ownlm.train.config import Plan, TrainConfig
from ownlm.train.finetune import FinetuneRecipe, finetune
from ownlm.train.loop import Stopped
from ownlm.train.pretrain import PretrainRecipe, pretrain

__all__ = ["FinetuneRecipe", "Plan", "PretrainRecipe", "Stopped", "TrainConfig", "finetune", "pretrain"]
