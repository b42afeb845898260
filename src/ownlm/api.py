"""The public names of ownlm, for programs; see each function's own docstring.

import ownlm
model = ownlm.load("runs/quickstart/chat")
model.chat([{"role": "user", "content": "What does len do?"}]).text
"""

from ownlm.apps import Reply, ask
from ownlm.evaluation import Evaluation, evaluate
from ownlm.journey import quickstart
from ownlm.opened import Answer, Embedder, Model, load, load_embedder
from ownlm.train import finetune, pretrain

__all__ = [
    "Answer",
    "Embedder",
    "Evaluation",
    "Model",
    "Reply",
    "ask",
    "evaluate",
    "finetune",
    "load",
    "load_embedder",
    "pretrain",
    "quickstart",
]
