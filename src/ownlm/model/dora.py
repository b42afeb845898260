"""DoRA: an adapter that learns how long each row of a matrix is apart from where it points (arXiv:2402.09353).

    W' = magnitude_O * (W + scale * B A) / norm_O         norm_O: the lengths of the rows of W + scale * B A

Beside the weights it is LoRA's sum, then one factor an output: gain * (W x + scale * B (A x)) + bias. Of norm_O no
gradient is taken, as section 4.3 of the paper has it, so it is computed once for each change of A and B.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ownlm.model.decoder import Decoder
from ownlm.model.four_bits import FourBits
from ownlm.model.lora_pair import LoraPair


@dataclass(frozen=True, kw_only=True, eq=False)
class Rescale:
    """What comes after LoRA's sum, for one layer's columns of the output."""

    magnitude_O: Tensor
    norm_O: Tensor
    bias_O: Tensor | None

    @property
    def gain_O(self) -> Tensor:
        # Not in the output's type: a factor near 1 has 8 bits in bfloat16, too few for what is learned.
        return self.magnitude_O / self.norm_O

    def __call__(self, out: Tensor) -> Tensor:
        rescaled = out * self.gain_O
        if self.bias_O is not None:
            rescaled = rescaled + (1 - self.gain_O) * self.bias_O
        return rescaled.to(out.dtype)


@torch.no_grad()
def row_norms(decoder: Decoder, pair: LoraPair, scale: float) -> Tensor:
    """norm_O of a stored matrix, above 0 though a row be 0."""
    found = []
    for layer, b_Or in pair.by_layer():
        weight_OE = base_weight(decoder, layer)
        changed_OE = weight_OE + scale * (b_Or @ pair.a_rE).to(weight_OE.dtype)
        found.append(changed_OE.norm(dim=1).clamp(min=torch.finfo(changed_OE.dtype).tiny))
    return pair.stored.join(found)


def rescales_of(decoder: Decoder, pair: LoraPair, norm_O: Tensor) -> Iterator[Rescale]:
    """For each layer of the pair."""
    assert pair.magnitude_O is not None
    parts = zip(pair.layers, pair.stored.split(pair.magnitude_O), pair.stored.split(norm_O), strict=True)
    for layer, magnitude_O, part_O in parts:
        yield Rescale(magnitude_O=magnitude_O, norm_O=part_O, bias_O=_linear(decoder, layer).bias)


@torch.no_grad()
def base_weight(decoder: Decoder, layer: str) -> Tensor:
    """A layer's matrix as it is computed with, in float32 or above."""
    projection, columns = decoder.places[layer]
    linear, kernel = _linear(decoder, layer), projection.kernel
    if isinstance(kernel, FourBits):
        return kernel.weight(torch.float32, columns)
    if not linear.weight.is_meta:
        return linear.weight.to(torch.promote_types(linear.weight.dtype, torch.float32))
    assert kernel is not None
    # Packed blocks have no way back, but show what they are when they are multiplied.
    out_EO = kernel(torch.eye(linear.in_features, device=decoder.device))[:, columns].float()
    return (out_EO if linear.bias is None else out_EO - linear.bias.float()).mT


def _linear(decoder: Decoder, layer: str) -> nn.Linear:
    found = decoder.get_submodule(layer)
    assert isinstance(found, nn.Linear)
    return found
