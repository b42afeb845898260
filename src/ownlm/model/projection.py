"""A decoder's linear maps: one or several of the same input, computed as one product.

    x ─┬─ kernel ─────────────── [q_proj; k_proj; v_proj] x ─┬─▶ q, k, v
       └─ adapters, on their rows alone ──── scale * B (A x) ┘

The layers hold the parameters under Hugging Face's names, as training, LoRA, Muon and saving want them. What computes
the product in inference is the kernel: `pack` makes the dense one, quantized.py others.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rows = slice | Tensor
# On the processor a float32 product of so many rows is 1.1 to 3.8 times as fast with the weights on its left: the rows
# of a step of several texts, or of a guess that is checked (docs/LOG.md).
_FEW_ROWS = range(2, 65)


def type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class Kernel(Protocol):
    """From [..., in] to [..., out]; a row's result depends on no other row. `name` tells its arithmetic."""

    @property
    def name(self) -> str: ...

    def __call__(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Dense:
    """All layers' rows in one matrix, in the type that it computes in."""

    weight: Tensor
    bias: Tensor | None

    @property
    def name(self) -> str:
        return type_name(self.weight.dtype)

    def __call__(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)
        if x.device.type != "cpu" or x.dtype != torch.float32 or x.numel() // x.shape[-1] not in _FEW_ROWS:
            return F.linear(x, self.weight, self.bias)
        out = (self.weight @ x.reshape(-1, x.shape[-1]).T).T.contiguous().view(*x.shape[:-1], -1)
        return out if self.bias is None else out + self.bias


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapted:
    """What an adapter adds to some columns of the output, for some rows of [..., rows, in]: scale * B (A x). `rescale`
    is what it makes of the sum, if it does.
    """

    rows: Rows
    columns: slice
    a_rE: Tensor
    b_Or: Tensor
    scale: float
    rescale: Callable[[Tensor], Tensor] | None = None

    def add(self, x: Tensor, out: Tensor) -> None:
        change = x[..., self.rows, :].to(self.a_rE.dtype) @ self.a_rE.T @ self.b_Or.T * self.scale
        sum_ = out[..., self.rows, self.columns] + change.to(out.dtype)
        out[..., self.rows, self.columns] = sum_ if self.rescale is None else self.rescale(sum_)


class Projection:
    """One or several layers of one input. No module: the layers belong to the module that made it."""

    def __init__(self, *layers: nn.Linear) -> None:
        self.layers = layers
        self.kernel: Kernel | None = None
        self.adapted: list[Adapted] = []

    @property
    def sizes(self) -> list[int]:
        return [layer.out_features for layer in self.layers]

    def __call__(self, x: Tensor) -> Tensor:
        """What the layers make of `x`, side by side."""
        if self._trains_adapters:
            parts = self._beside(x)
            return parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        out = self._base(x)
        for adapted in self.adapted:
            adapted.add(x, out)
        return out

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """What each layer makes of `x`."""
        if self._trains_adapters:
            return self._beside(x)
        if self.kernel is None and not self.adapted and not torch.is_grad_enabled():
            # Joining the weights would cost as much as the products of a token.
            return tuple(layer(_as(layer.weight, x)) for layer in self.layers)
        return torch.split(self(x), self.sizes, dim=-1)

    def pack(self) -> None:
        """For inference: the layers' weights one behind another in memory, each layer's parameter its part of them."""
        first = self.layers[0]
        if len(self.layers) == 1:
            self.kernel = Dense(first.weight, first.bias)
            return
        joined = {kind: torch.cat([getattr(layer, kind).detach() for layer in self.layers]) for kind in self._kinds()}
        for kind, tensor in joined.items():
            for layer, part in zip(self.layers, torch.split(tensor, self.sizes), strict=True):
                setattr(layer, kind, nn.Parameter(part, requires_grad=False))
        self.kernel = Dense(joined["weight"], joined.get("bias"))

    def repack(self) -> None:
        """After something gave the parameters other memory."""
        if isinstance(self.kernel, Dense):
            self.pack()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Projection":
        copied = Projection(*deepcopy(self.layers, memo))
        copied.kernel = self.kernel if isinstance(self.kernel, Dense) else deepcopy(self.kernel, memo)
        copied.repack()
        return copied

    @property
    def learned(self) -> list[Tensor]:
        """What gets gradients, of the layers and of the adapters beside them."""
        own = [parameter for layer in self.layers for parameter in layer.parameters()]
        beside = [matrix for one in self.adapted for matrix in (one.a_rE, one.b_Or)]
        return [tensor for tensor in (*own, *beside) if tensor.requires_grad]

    @property
    def _trains_adapters(self) -> bool:
        return bool(self.adapted) and torch.is_grad_enabled()

    def _base(self, x: Tensor) -> Tensor:
        return self._trained(x) if self.kernel is None else self.kernel(x)

    def _beside(self, x: Tensor) -> tuple[Tensor, ...]:
        """With adapters that get gradients: nothing is changed in place, and each product is added as it is made."""
        parts = list(torch.split(self._base(x), self.sizes, dim=-1))
        starts = {sum(self.sizes[:place]): place for place in range(len(self.sizes))}
        ranks = [len(adapted.a_rE) for adapted in self.adapted]
        # One product for all A: x is read once.
        narrow = torch.split(F.linear(_as(self.adapted[0].a_rE, x), self._all_a()), ranks, dim=-1)
        for adapted, lowered in zip(self.adapted, narrow, strict=True):
            assert adapted.rows == slice(None), "adapters of single rows are for answers, not for training"
            place = starts[adapted.columns.start]
            part = _as(adapted.b_Or, parts[place])
            sum_ = torch.addmm(part.flatten(0, -2), lowered.flatten(0, -2), adapted.b_Or.T, alpha=adapted.scale)
            sum_ = sum_.view(part.shape)
            parts[place] = sum_ if adapted.rescale is None else adapted.rescale(sum_)
        return tuple(parts)

    def _all_a(self) -> Tensor:
        return self.adapted[0].a_rE if len(self.adapted) == 1 else torch.cat([one.a_rE for one in self.adapted])

    def _kinds(self) -> tuple[str, ...]:
        return ("weight",) if self.layers[0].bias is None else ("weight", "bias")

    def _trained(self, x: Tensor) -> Tensor:
        """In training one product is faster than several, and joining the weights costs little beside it."""
        x = _as(self.layers[0].weight, x)
        if len(self.layers) == 1:
            out: Tensor = self.layers[0](x)
            return out
        joined = [torch.cat([getattr(layer, kind) for layer in self.layers]) for kind in self._kinds()]
        return F.linear(x, *joined)


def _as(weight: Tensor, x: Tensor) -> Tensor:
    """`x` in the weight's type, where autocast does not see to that."""
    return x if x.dtype == weight.dtype or torch.is_autocast_enabled(x.device.type) else x.to(weight.dtype)
