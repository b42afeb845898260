"""Optimizers: Muon for the matrices inside the blocks, AdamW for all else.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon; scaled as in arXiv:2502.16982): the momentum of a
matrix is replaced by the nearest orthogonal one before it is applied, so that every direction learns at the
same pace. Orthogonalising is five small products a matrix; matrices of one shape are stacked into a
single batched product, for on a small model the calls cost more than the arithmetic. q, k and v keep to
themselves: they are different maps that only lie side by side.

torch.optim.Muon is the oracle: a test holds this update to it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ownlm.errors import OwnlmError

# Quintic Newton-Schulz coefficients of the Muon post: steep at zero, so five rounds are enough.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Peak learning rates and decays. `matrix_` is for Muon ("adamw" gives matrices to AdamW too)."""

    matrix_optimizer: str = "muon"
    matrix_learning_rate: float = 0.03
    matrix_weight_decay: float = 0.0
    momentum: float = 0.9
    learning_rate: float = 0.008
    embedding_learning_rate: float = 0.012
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-10
    clip: float = 1.0

    def __post_init__(self) -> None:
        if self.matrix_optimizer not in ("muon", "adamw"):
            raise OwnlmError(f"matrix_optimizer is muon or adamw, got {self.matrix_optimizer!r}")
        for name, value in vars(self).items():
            if name != "matrix_optimizer" and not 0 <= value < float("inf"):
                raise OwnlmError(f"{name} must be 0 or more, got {value}")
        for name in ("momentum", "beta1", "beta2"):
            if getattr(self, name) >= 1:
                raise OwnlmError(f"{name} must be below 1, got {getattr(self, name)}")
        if self.clip == 0:
            raise OwnlmError("clip must be above 0, or no step changes anything")


def orthogonalise(matrices_NRC: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest (semi-)orthogonal matrix of each, to within Newton-Schulz's five rounds."""
    a, b, c = _NEWTON_SCHULZ
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    x = matrices_NRC.to(dtype)
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon over matrices, batched by shape. `dtype`: bfloat16 where the processor has it, else float32."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype
        for group in self.param_groups:
            assert all(parameter.ndim == 2 for parameter in group["params"]), "Muon is for matrices"

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is None, "Muon takes its gradients as they are"
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
            for same in by_shape.values():
                self._update(same, group)

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        buffers, gradients = [], []
        weights: list[Tensor] = list(parameters)
        for parameter in parameters:
            assert parameter.grad is not None
            gradients.append(parameter.grad)
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffers.append(state["momentum_buffer"])
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        nesterov = torch._foreach_lerp(gradients, buffers, group["momentum"])
        update_NRC = orthogonalise(torch.stack(nesterov), self.dtype).to(parameters[0].dtype)
        rows, columns = parameters[0].shape
        # A tall matrix moves its output more: keep the step in root-mean-square size alike.
        rate = group["lr"] * max(1.0, rows / columns) ** 0.5
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(weights, list(update_NRC.unbind()), alpha=-rate)


class Optimizers:
    """The two optimizers as one: step, scale the rates, save and restore."""

    def __init__(self, model: nn.Module, config: OptimizerConfig, *, muon_dtype: torch.dtype) -> None:
        matrices, embeddings, rest = partition(model)
        groups = [
            {"params": rest, "lr": config.learning_rate, "weight_decay": 0.0},
            {
                "params": embeddings,
                "lr": config.embedding_learning_rate,
                "weight_decay": config.weight_decay,
            },
        ]
        self.parts: list[torch.optim.Optimizer] = []
        if config.matrix_optimizer == "muon":
            self.parts.append(
                Muon(
                    matrices,
                    lr=config.matrix_learning_rate,
                    momentum=config.momentum,
                    weight_decay=config.matrix_weight_decay,
                    dtype=muon_dtype,
                )
            )
        else:
            groups.append({"params": matrices, "lr": config.learning_rate, "weight_decay": config.weight_decay})
        self.parts.append(torch.optim.AdamW(groups, betas=(config.beta1, config.beta2), eps=config.eps, fused=True))
        for part in self.parts:
            for group in part.param_groups:
                group["peak"] = group["lr"]

    def set_rate_factor(self, factor: float) -> None:
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = group["peak"] * factor

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return {str(index): part.state_dict() for index, part in enumerate(self.parts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for index, part in enumerate(self.parts):
            part.load_state_dict(state[str(index)])


def partition(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """(matrices of the blocks, embeddings and head, vectors): every trainable parameter in exactly one.

    An adapter's matrices are of the blocks, too.
    """
    matrices, embeddings, rest = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim != 2:
            rest.append(parameter)
        elif name.startswith(("model.layers.", "pairs.")):
            matrices.append(parameter)
        else:
            embeddings.append(parameter)
    parts = {id(parameter) for part in (matrices, embeddings, rest) for parameter in part}
    assert parts == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    return matrices, embeddings, rest
