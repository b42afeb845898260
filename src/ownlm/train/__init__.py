"""Training: rows in, a run folder and a model out."""

from ownlm.train.config import Plan, TrainConfig, TuneConfig
from ownlm.train.finetune import finetune
from ownlm.train.finetune_recipe import FinetuneRecipe, LoraTuning
from ownlm.train.loop import Stopped
from ownlm.train.pretrain import PretrainRecipe, pretrain

__all__ = [
    "FinetuneRecipe",
    "LoraTuning",
    "Plan",
    "PretrainRecipe",
    "Stopped",
    "TrainConfig",
    "TuneConfig",
    "finetune",
    "pretrain",
]
