"""Rotary position embedding: position as an angle.

In:  queries or keys x_BHTD and the cosine and sine of every position's angles.
Out: the same shape, each pair of channels rotated by position * frequency.

Sources: RoFormer (arXiv:2104.09864). Scalings to longer contexts: linear (arXiv:2306.15595), dynamic NTK and
yarn (arXiv:2309.00071), llama3 (Llama 3.1's reference code), longrope (arXiv:2402.13753).
"""

import math

import torch
from torch import Tensor, nn

from ownlm.model.config import DecoderConfig
from ownlm.model.rope_scaling import RopeScaling


def rope_frequencies(rotary_dim: int, theta: float) -> Tensor:
    """Angular frequency of each channel pair, shape [rotary_dim / 2], in radians a token, in float64."""
    # On the CPU also while a model's parameters are made on the meta device: frequencies are not loaded from files.
    exponent = torch.arange(0, rotary_dim, 2, dtype=torch.float64, device="cpu") / rotary_dim
    return theta**-exponent


def scaled_frequencies(frequencies: Tensor, config: DecoderConfig, scaling: RopeScaling) -> Tensor:
    """What the scaling makes of them; longrope's for a short sequence, dynamic's within the trained context."""
    if scaling.rope_type == "linear":
        assert scaling.factor is not None
        return frequencies / scaling.factor
    if scaling.rope_type == "llama3":
        return _llama3(frequencies, scaling)
    if scaling.rope_type == "yarn":
        return _yarn(frequencies, config.rotary_dim, config.rope_theta, scaling)
    if scaling.rope_type == "longrope":
        return frequencies / torch.tensor(scaling.short_factor, dtype=torch.float64, device="cpu")
    assert scaling.rope_type == "dynamic"
    return frequencies


def _llama3(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Slow channels are slowed by the factor, fast ones kept, those between are mixed."""
    assert scaling.factor and scaling.original_max_position_embeddings
    assert scaling.low_freq_factor is not None and scaling.high_freq_factor is not None
    turns = scaling.original_max_position_embeddings * frequencies / (2 * math.pi)
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = kept.clamp(0, 1)
    return frequencies * (kept + (1 - kept) / scaling.factor)


def _yarn(frequencies: Tensor, rotary_dim: int, theta: float, scaling: RopeScaling) -> Tensor:
    """The same idea, along a ramp over the channels between two numbers of turns within the first context."""
    assert scaling.factor and scaling.original_max_position_embeddings

    def channel(turns: float) -> float:
        assert scaling.original_max_position_embeddings
        return rotary_dim * math.log(scaling.original_max_position_embeddings / (turns * 2 * math.pi)) / math.log(theta)

    low, high = channel(scaling.beta_fast or 32) / 2, channel(scaling.beta_slow or 1) / 2
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary_dim - 1)
    width = high - low if high != low else 0.001
    place = torch.arange(len(frequencies), dtype=torch.float64, device="cpu")
    slowed = ((place - low) / width).clamp(0, 1)
    return frequencies * (1 - slowed) + frequencies / scaling.factor * slowed


def magnitude(scaling: RopeScaling | None) -> float:
    """What cosine and sine are multiplied by: yarn and longrope sharpen attention over longer contexts."""
    if scaling is None or scaling.rope_type not in ("yarn", "longrope"):
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    assert scaling.factor and scaling.original_max_position_embeddings
    if scaling.factor <= 1:
        return 1.0
    growth = math.log(scaling.factor)
    if scaling.rope_type == "longrope":
        return math.sqrt(1 + growth / math.log(scaling.original_max_position_embeddings))
    if scaling.mscale and scaling.mscale_all_dim:
        return (0.1 * scaling.mscale * growth + 1) / (0.1 * scaling.mscale_all_dim * growth + 1)
    return 0.1 * growth + 1


class Rope(nn.Module):
    """The angles of a model's positions. `local`: those of sliding layers, where these have their own.

    Two scalings, dynamic and longrope, depend on how long the text is. Each row of a batch, and each packed
    document, goes by its own length: the largest position that the call holds of it, unless lengths are given.
    With a cache the keys of earlier calls keep the angles they got then (transformers' rule too): a
    sequence that crosses that length while it grows differs from one that is read at once.
    """

    frequencies: Tensor
    long_frequencies: Tensor | None

    def __init__(self, config: DecoderConfig, *, local: bool = False) -> None:
        super().__init__()
        self.config = config
        self.scaling = None if local else config.rope_scaling
        self.theta = config.rope_theta
        if local:
            assert config.rope_local_base_freq is not None
            self.theta = config.rope_local_base_freq
        self.magnitude = magnitude(self.scaling)
        self.register_buffer("frequencies", None, persistent=False)
        self.register_buffer("long_frequencies", None, persistent=False)
        self.reset(torch.device("cpu"))

    def reset(self, device: torch.device) -> None:
        """Compute the tables anew. Moved, but never rounded: a bfloat16 model's angles are taken in float32 too."""
        plain = rope_frequencies(self.config.rotary_dim, self.theta)
        scaled = plain if self.scaling is None else scaled_frequencies(plain, self.config, self.scaling)
        self.frequencies = scaled.float().to(device)
        if self.scaling is not None and self.scaling.rope_type == "longrope":
            factors = torch.tensor(self.scaling.long_factor, dtype=torch.float64, device="cpu")
            self.long_frequencies = (plain / factors).float().to(device)

    def forward(
        self, positions_BT: Tensor, documents_BT: Tensor | None = None, lengths_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Cosine and sine for every position, each [B, 1, T, rotary_dim], ready for any number of heads.

        Angles are taken in float32 whatever the model computes in: bfloat16 cannot tell 256 from 257.
        """
        frequencies = self.frequencies
        if self.scaling is not None and self.scaling.by_length:
            lengths = _lengths(positions_BT, documents_BT) if lengths_BT is None else lengths_BT
            frequencies = self._by_length(lengths.unsqueeze(-1))
        half_BTd = positions_BT.unsqueeze(-1).to(frequencies.dtype) * frequencies
        angle_BxTD = torch.cat((half_BTd, half_BTd), dim=-1).unsqueeze(1)
        cos, sin = angle_BxTD.cos(), angle_BxTD.sin()
        return (cos, sin) if self.magnitude == 1 else (cos * self.magnitude, sin * self.magnitude)

    def _by_length(self, length_Bx1: Tensor) -> Tensor:
        """Frequencies [B, 1 or T, rotary_dim / 2] of texts so long."""
        assert self.scaling is not None and self.scaling.factor is not None
        if self.scaling.rope_type == "longrope":
            assert self.scaling.original_max_position_embeddings is not None and self.long_frequencies is not None
            is_long_Bx1 = length_Bx1 > self.scaling.original_max_position_embeddings
            return torch.where(is_long_Bx1, self.long_frequencies, self.frequencies)
        dim, trained, factor = self.config.rotary_dim, self.config.max_position_embeddings, self.scaling.factor
        growth_Bx1 = factor * length_Bx1.clamp(min=trained).float() / trained - (factor - 1)
        # A larger base turns channel i slower by growth to the power of 2i / (dim - 2).
        exponent = torch.arange(0, dim, 2, device=length_Bx1.device, dtype=torch.float32) / (dim - 2)
        return self.frequencies * growth_Bx1**-exponent


def _lengths(positions_BT: Tensor, documents_BT: Tensor | None) -> Tensor:
    """Tokens of each row, [B, 1], or of the packed document that each token is of, [B, T]."""
    if documents_BT is None:
        return positions_BT.amax(dim=1, keepdim=True) + 1
    same_BTS = documents_BT.unsqueeze(2) == documents_BT.unsqueeze(1)
    return positions_BT.unsqueeze(1).masked_fill(~same_BTS, 0).amax(dim=2) + 1


def apply_rope(x_BHTD: Tensor, cos_BxTD: Tensor, sin_BxTD: Tensor) -> Tensor:
    """Turn the first channels of each head, as many as there are angles, and let the others pass."""
    width = cos_BxTD.shape[-1]
    if width < x_BHTD.shape[-1]:
        turned, passed = x_BHTD[..., :width], x_BHTD[..., width:]
        return torch.cat((apply_rope(turned, cos_BxTD, sin_BxTD), passed.to(cos_BxTD.dtype)), dim=-1)
    # Halves, not neighbours, form the pairs: Hugging Face weights are stored so.
    first, second = x_BHTD.chunk(2, dim=-1)
    rotated = torch.cat((-second, first), dim=-1)
    return x_BHTD * cos_BxTD + rotated * sin_BxTD
