"""ownlm: grow, run and own your language model.

The public names are looked up when first used, so that `import ownlm` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ownlm.api import (
        Answer,
        Embedder,
        Evaluation,
        Model,
        Reply,
        ask,
        evaluate,
        finetune,
        load,
        load_embedder,
        pretrain,
        quickstart,
    )
    from ownlm.errors import OwnlmError

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

_PUBLIC = [name for name in __all__ if name not in ("OwnlmError", "__version__")]
_HOME = dict.fromkeys(_PUBLIC, "ownlm.api")
_HOME["OwnlmError"] = "ownlm.errors"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ownlm' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
