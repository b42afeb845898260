"""ownlm: grow, run and own your language model.

The public names are looked up when first used, so that `import ownlm` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ownlm.api import Answer, Model, Reply, ask, finetune, load, pretrain, quickstart
    from ownlm.errors import OwnlmError

__version__ = "0.1.0"
__all__ = ["Answer", "Model", "OwnlmError", "Reply", "__version__", "ask", "finetune", "load", "pretrain", "quickstart"]

_HOME = dict.fromkeys(("Answer", "Model", "Reply", "ask", "finetune", "load", "pretrain", "quickstart"), "ownlm.api")
_HOME["OwnlmError"] = "ownlm.errors"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ownlm' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
