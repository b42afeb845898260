"""How the Qwen families say which layers slide: `use_sliding_window`, and from `max_window_layers` on those behind."""

from collections.abc import Mapping
from typing import Any

from ownlm.model.checks import whole
from ownlm.model.config import FULL, SLIDING, DecoderConfig
from ownlm.model.families.fields import read_layer_types, read_window_if_used

DEFAULTS = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}
COMPUTED = ("use_sliding_window", "sliding_window", "layer_types")


def read_windows(fields: Mapping[str, Any]) -> dict[str, Any]:
    """DecoderConfig's keywords. Without `use_sliding_window` the window that the file names means nothing."""
    window = read_window_if_used(fields)
    kinds = read_layer_types(fields)
    if window is not None and not kinds:
        first = whole("max_window_layers", fields["max_window_layers"], least=0)
        layers = whole("num_hidden_layers", fields["num_hidden_layers"], most=2**11)
        kinds = tuple(SLIDING if layer >= first else FULL for layer in range(layers))
    if len(set(kinds)) <= 1:
        # All alike, which the window itself says.
        return {"sliding_window": None if FULL in kinds else window, "layer_types": ()}
    return {"sliding_window": window, "layer_types": kinds}


def write_windows(config: DecoderConfig) -> dict[str, Any]:
    kinds = [SLIDING if config.slides(layer) else FULL for layer in range(config.num_hidden_layers)]
    used = SLIDING in kinds
    return {
        "use_sliding_window": used,
        "sliding_window": config.sliding_window if used else None,
        "max_window_layers": kinds.index(SLIDING) if used else config.num_hidden_layers,
        "layer_types": kinds,
    }
