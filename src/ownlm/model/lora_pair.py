"""What an adapter holds for one stored matrix: A and B (arXiv:2106.09685), and with DoRA its rows' lengths.

W ──▶ W + scale * B A ──with DoRA──▶ each row brought to its length in magnitude_O (arXiv:2402.09353)
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor, nn

from ownlm.model.decoder import Decoder
from ownlm.model.families import family_of
from ownlm.model.families.tensor_map import Stored


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    rank: int
    alpha: float
    rank_stabilised: bool = False  # arXiv:2312.03732
    dora: bool = False

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


class LoraPair(nn.Module):
    """A and B of one stored matrix, which may be several layers' (GPT-2's c_attn is q, k and v)."""

    def __init__(self, stored: Stored, a_rE: Tensor, b_Or: Tensor, magnitude_O: Tensor | None = None) -> None:
        super().__init__()
        # PEFT keeps B as [out, rank], however the matrix itself is stored.
        self.stored = replace(stored, rule=replace(stored.rule, transposed=False))
        self.a_rE, self.b_Or = nn.Parameter(a_rE), nn.Parameter(b_Or)
        self.magnitude_O = None if magnitude_O is None else nn.Parameter(magnitude_O)

    @property
    def module(self) -> str:
        """The name in the family's files."""
        return self.stored.name.removesuffix(".weight")

    @property
    def layers(self) -> list[str]:
        return [parameter.removesuffix(".weight") for parameter in self.stored.parameters]

    def by_layer(self) -> Iterator[tuple[str, Tensor]]:
        """Each layer's name, and its rows of B."""
        return zip(self.layers, self.stored.split(self.b_Or), strict=True)


def matrices(decoder: Decoder) -> dict[str, Stored]:
    """What an adapter may change, by the names of the family's files: not the head, and no expert, whose rows are
    gathered from everywhere.
    """
    shapes = {
        f"{layer}.weight": (columns.stop - columns.start, projection.layers[0].in_features)
        for layer, (projection, columns) in decoder.places.items()
        if layer != "lm_head" and ".experts." not in layer
    }
    family = family_of({"model_type": decoder.config.model_type})
    layout = family.TENSORS.layout(shapes, decoder.config.num_attention_heads)
    return {name.removesuffix(".weight"): stored for name, stored in layout.items()}


def sizes(stored: Stored) -> tuple[int, int]:
    """(outputs, inputs) of a matrix."""
    return sum(shape[0] for shape in stored.shapes), stored.shapes[0][1]
