"""From a text's hidden states to the one vector that stands for it, as a sentence-transformers folder says.

    modules.json            the steps: Transformer, Pooling, perhaps Normalize
    1_Pooling/config.json   which of them: the mean of all tokens, the first ([CLS]), or the largest of each number

A folder without these is pooled by its mean, as sentence-transformers does it. Vectors are always made of unit length.
"""

from pathlib import Path
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from ownlm.artefact import read_json, read_text
from ownlm.artefact.read import strict_json
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.checks import shown

Pooling = Literal["mean", "cls", "max"]
MODULES = "modules.json"
_FLAGS = "pooling_mode_"
_KINDS: dict[str, Pooling] = {"mean_tokens": "mean", "cls_token": "cls", "max_tokens": "max"}
_STEPS = ("Transformer", "Pooling", "Normalize")
_FIX = "restore it"


def read_pooling(folder: Path) -> Pooling:
    """OwnlmError where the folder asks for what is not computed here."""
    if not (folder / MODULES).is_file():
        return "mean"
    place = _pooling_place(folder / MODULES)
    path = folder / place / "config.json"
    if not path.is_file():
        raise DamagedError(
            f"{folder} lacks {place}/config.json, which its {MODULES} names; fetch the rest of the model"
        )
    fields = read_json(path, fix=_FIX)
    asked = fields.get("pooling_mode")
    if asked is None:
        flags = [name for name, value in fields.items() if name.startswith(_FLAGS) and value]
        asked = " and ".join(_KINDS.get(name.removeprefix(_FLAGS), name) for name in flags)
    kind = next((kind for kind in get_args(Pooling) if kind == asked), None)
    if kind is None:
        raise OwnlmError(f"{path} asks for the pooling {shown(asked)}, and only mean, cls and max are computed")
    found: Pooling = kind
    return found


def _pooling_place(path: Path) -> str:
    try:
        steps: Any = strict_json(read_text(path, fix=_FIX))
        named = [(str(step["type"]).rpartition(".")[2], str(step["path"])) for step in steps]
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise DamagedError(f"{path} is no list of modules ({error}); {_FIX}") from None
    if other := [kind for kind, _ in named if kind not in _STEPS]:
        raise OwnlmError(f"{path} names a module {shown(other[0])}, which ownlm does not compute")
    places = [place for kind, place in named if kind == "Pooling"]
    # A folder beside the file and nothing else: it must not lead to other files of the machine.
    if (
        len(places) != 1
        or places[0] != Path(places[0]).name
        or set("\\:\0") & set(places[0])
        or places[0] in ("", "..")
    ):
        raise DamagedError(f"{path} must name one Pooling, in a folder beside it; {_FIX}")
    return places[0]


def pool(hidden_BTE: Tensor, real_BT: Tensor, pooling: Pooling) -> Tensor:
    """One vector of unit length a text [B, E]. `real_BT`: which tokens are the text's own."""
    if pooling == "cls":
        pooled_BE = hidden_BTE[:, 0]
    elif pooling == "max":
        pooled_BE = hidden_BTE.masked_fill(~real_BT.unsqueeze(-1), float("-inf")).amax(1)
    else:
        real_BT1 = real_BT.unsqueeze(-1).to(hidden_BTE.dtype)
        pooled_BE = (hidden_BTE * real_BT1).sum(1) / real_BT1.sum(1)
    return F.normalize(pooled_BE, dim=-1)
