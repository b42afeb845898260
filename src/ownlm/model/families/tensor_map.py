"""How a family's files name and lay out what the decoder's parameters hold: a table that reads both ways.

    stored                                parameters
    h.0.attn.c_attn.weight   ◀──────▶     layers.0.self_attn.q_proj.weight, k_proj.weight, v_proj.weight

A parameter that no rule names is stored under its own name. Each stored tensor is read once, alone, and taken
apart into its parameters; on writing they are put together again. So no second copy of a model is ever made.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ownlm.errors import DamagedError
from ownlm.model.checkpoint import Blocks, StoredTensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Rule:
    """Names without `.weight` and `.bias`: a rule holds for both. `{}` stands for a number, such as the layer's.

    Several parameters lie one behind the other by rows, or `by_head`: head by head, q k v of the first, q k v of
    the second. `transposed`: stored as [in, out].
    """

    stored: str
    parameters: tuple[str, ...]
    transposed: bool = False
    by_head: bool = False


@dataclass(frozen=True)
class Stored:
    """One tensor of a file, and the parameters that it holds. `heads` is for what lies by head."""

    name: str
    parameters: tuple[str, ...]
    shapes: tuple[Shape, ...]
    rule: Rule
    heads: int

    @property
    def shape(self) -> Shape:
        rows = sum(shape[0] for shape in self.shapes)
        shape = (rows, *self.shapes[0][1:])
        return shape[::-1] if self.rule.transposed else shape

    def split(self, stored: Tensor) -> list[Tensor]:
        """The parameters of a tensor as it is stored; views of it."""
        stored = stored.mT if self.rule.transposed and stored.ndim == 2 else stored
        if self.rule.by_head:
            by_head = stored.reshape(self.heads, len(self.parameters), -1, *stored.shape[1:])
            return [by_head[:, part].flatten(0, 1) for part in range(len(self.parameters))]
        return list(torch.split(stored, [shape[0] for shape in self.shapes]))

    def split_blocks(self, blocks: Blocks) -> list[Blocks]:
        """The same of a tensor in blocks: they lie along what no rule takes apart."""
        levels, scales, minima = (self.split(part) for part in (blocks.levels, blocks.scales, blocks.minima))
        each = zip(levels, scales, minima, strict=True)
        return [Blocks(levels=level, scales=scale, minima=minimum) for level, scale, minimum in each]

    def join(self, parameters: Sequence[Tensor]) -> Tensor:
        """The tensor as it is stored."""
        if self.rule.by_head:
            by_head = [part.reshape(self.heads, -1, *part.shape[1:]) for part in parameters]
            joined = torch.stack(by_head, dim=1).flatten(0, 2)
        else:
            joined = parameters[0] if len(parameters) == 1 else torch.cat(list(parameters))
        return joined.mT if self.rule.transposed and joined.ndim == 2 else joined


@dataclass(frozen=True, kw_only=True)
class TensorMap:
    """`spellings`: other beginnings of stored names, and the one that stands for them here.

    `unused`: what stored names contain that are no weights of the decoder, such as tables of angles.
    """

    rules: tuple[Rule, ...] = ()
    spellings: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = (r"rotary_emb\.inv_freq$",)

    def layout(self, shapes: Mapping[str, Shape], heads: int) -> dict[str, Stored]:
        """Every stored tensor of a decoder whose parameters have `shapes`, by name."""
        by_parameter = {name: rule for rule in self.rules for name in rule.parameters}
        layout: dict[str, Stored] = {}
        for name in shapes:
            module, _, kind = name.rpartition(".")
            template, numbers = re.sub(r"\b\d+\b", "{}", module), re.findall(r"\b\d+\b", module)
            rule = by_parameter.get(template) or Rule(template, (template,))
            stored = f"{rule.stored.format(*numbers)}.{kind}"
            if stored not in layout:
                parts = tuple(f"{part.format(*numbers)}.{kind}" for part in rule.parameters)
                layout[stored] = Stored(stored, parts, tuple(shapes[part] for part in parts), rule, heads)
        return layout

    def found(self, tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
        """A file's tensors by the names that `layout` uses, without those that are no weights."""
        found: dict[str, StoredTensor] = {}
        for name, tensor in tensors.items():
            if any(re.search(pattern, name) for pattern in self.unused):
                continue
            for beginning, ours in self.spellings.items():
                if name.startswith(beginning):
                    name = ours + name.removeprefix(beginning)
                    break
            if name in found:
                raise DamagedError(f"the tensor {name} is stored twice, under two spellings; restore the model's files")
            found[name] = tensor
        return found
