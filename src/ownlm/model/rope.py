"""Rotary position embedding: position as an angle.

In:  queries or keys x_BHTD and the cosine and sine of every position's angles.
Out: the same shape, each pair of channels rotated by position * frequency.

Source: RoFormer (arXiv:2104.09864).
"""

import torch
from torch import Tensor


def rope_frequencies(head_dim: int, theta: float) -> Tensor:
    """Angular frequency of each channel pair, shape [head_dim / 2], in radians a token."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    return (theta**-exponent).float()


def rope_angles(positions_BT: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine for every position, each [B, 1, T, D], ready for any number of heads.

    Angles are taken in float32 whatever the model computes in: bfloat16 cannot tell 256 from 257.
    """
    half_BTd = positions_BT.unsqueeze(-1).to(frequencies.dtype) * frequencies
    angle_BxTD = torch.cat((half_BTd, half_BTd), dim=-1).unsqueeze(1)
    return angle_BxTD.cos(), angle_BxTD.sin()


def apply_rope(x_BHTD: Tensor, cos_BxTD: Tensor, sin_BxTD: Tensor) -> Tensor:
    # Halves, not neighbours, form the pairs: Hugging Face weights are stored so.
    first, second = x_BHTD.chunk(2, dim=-1)
    rotated = torch.cat((-second, first), dim=-1)
    return x_BHTD * cos_BxTD + rotated * sin_BxTD
