"""How a model's angles are stretched to contexts longer than it was first trained for: config.json's `rope_scaling`."""

from dataclasses import dataclass, fields
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.model.checks import choice, flag, number, whole

SCALINGS = ("linear", "dynamic", "yarn", "llama3", "longrope")
_NEEDS = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
    "longrope": ("factor", "original_max_position_embeddings", "short_factor", "long_factor"),
}
_LISTS = ("short_factor", "long_factor")


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """Names are config.json's; rope.py has the formulas. None means: not given, or not for this type.

    `factor` is how much longer the context became, `original_max_position_embeddings` what it was before.
    """

    rope_type: str
    factor: float | None = None
    original_max_position_embeddings: int | None = None
    attention_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    short_factor: tuple[float, ...] | None = None
    long_factor: tuple[float, ...] | None = None

    @property
    def by_length(self) -> bool:
        """Do a token's angles depend on how long its text is?"""
        return self.rope_type in ("dynamic", "longrope")

    def __post_init__(self) -> None:
        choice("rope_scaling's type", self.rope_type, SCALINGS)
        lacking = [name for name in _NEEDS[self.rope_type] if getattr(self, name) is None]
        if lacking:
            raise OwnlmError(f"rope_scaling of type {self.rope_type} lacks {', '.join(lacking)}")
        flag("rope_scaling's truncate", self.truncate)
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None or field.name in ("rope_type", "truncate"):
                continue
            if field.name == "original_max_position_embeddings":
                # Two, since longrope divides by its logarithm.
                whole(f"rope_scaling's {field.name}", value, least=2)
            elif field.name in _LISTS:
                if not isinstance(value, tuple) or len(value) > 2**16:
                    raise OwnlmError(f"rope_scaling's {field.name} must be a list of numbers, one a pair of channels")
                for entry in value:
                    number(f"rope_scaling's {field.name}", entry, least=1e-6, most=1e6)
            else:
                number(f"rope_scaling's {field.name}", value, least=1e-6, most=1e6)
        if self.rope_type == "llama3" and self.low_freq_factor == self.high_freq_factor:
            raise OwnlmError("rope_scaling's low_freq_factor and high_freq_factor must differ")

    def given(self) -> dict[str, Any]:
        """As config.json holds it: what was given, lists as lists."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if values["truncate"]:
            del values["truncate"]
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value is not None
        }
