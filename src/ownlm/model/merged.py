"""Several linear maps of one input as one product."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def merged_linear(x: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """What each layer makes of `x`. The parameters stay apart, as LoRA, Muon and saving want them.

    In training one product is faster than several, and joining the weights costs little beside it. A token at a
    time it would cost as much as the products themselves: there they stay several.
    """
    if not torch.is_grad_enabled():
        return tuple(layer(x) for layer in layers)
    weight = torch.cat([layer.weight for layer in layers])
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    return torch.split(F.linear(x, weight, bias), [layer.out_features for layer in layers], dim=-1)
