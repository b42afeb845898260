"""ownlm: grow, run and own your language model.

The public names are looked up when first used, so that `import ownlm` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ownlm.apps import Reply, ask
    from ownlm.errors import OwnlmError
    from ownlm.evaluation import Evaluation, evaluate
    from ownlm.journey import quickstart
    from ownlm.opened import Answer, Embedder, Model, load, load_embedder
    from ownlm.train import finetune, pretrain

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "Embedder",
    "Evaluation",
    "Model",
    "OwnlmError",
    "Reply",
    "__version__",
    "ask",
    "evaluate",
    "finetune",
    "load",
    "load_embedder",
    "pretrain",
    "quickstart",
]

# Each name's own package, so that who loads a model does not wait for what trains one.
_HOME = {
    "OwnlmError": "ownlm.errors",
    **dict.fromkeys(("Answer", "Embedder", "Model", "load", "load_embedder"), "ownlm.opened"),
    **dict.fromkeys(("Reply", "ask"), "ownlm.apps"),
    **dict.fromkeys(("Evaluation", "evaluate"), "ownlm.evaluation"),
    **dict.fromkeys(("finetune", "pretrain"), "ownlm.train"),
    "quickstart": "ownlm.journey",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ownlm' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
