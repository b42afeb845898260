"""A GGUF file as a Checkpoint: Hugging Face's fields, names and layouts.

In:  GgufFile, its header checked. Out: Checkpoint; a tensor is decoded, to float32, when it is read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from ownlm.artefact.gguf_header import GgufFile, GgufTensor
from ownlm.errors import DamagedError
from ownlm.model.checkpoint import Blocks, Checkpoint, StoredTensor
from ownlm.model.formats.gguf_architectures import Architecture, Rule
from ownlm.model.formats.gguf_config import HEAD, heads_of, read_architecture, read_fields
from ownlm.model.formats.gguf_layouts import Heads, Layout, shape_in_hf, to_hf
from ownlm.model.formats.gguf_quants import BLOCKS, dequantize, read_blocks
from ownlm.model.formats.gguf_rope import ROPE_TENSORS

_LAYER = re.compile(r"blk\.(0|[1-9][0-9]{0,4})\.(.+)")


def gguf_checkpoint(file: GgufFile) -> Checkpoint:
    """The model in `file`. A tensor that the architecture does not have is refused: it would be left out silently."""
    architecture, fields = read_architecture(file), read_fields(file)
    heads = heads_of(fields)
    rules = {rule.gguf: rule for rule in architecture.rules}
    layers = file.metadata[f"{architecture.name}.block_count"]
    tensors: dict[str, StoredTensor] = {}
    for tensor in file.tensors.values():
        if tensor.name in ROPE_TENSORS or (tensor.name == HEAD and fields["tie_word_embeddings"]):
            continue
        rule, layer = _rule_for(tensor.name, rules, architecture, layers, str(file.path))
        if rule.layout is Layout.EXPERTS and tensor.shape[0] != fields["num_experts"]:
            raise DamagedError(
                f"{file.path} has {fields['num_experts']} experts, and {tensor.name!r} {tensor.shape[0]}; "
                "convert it again"
            )
        tensors.update(_stored(file, tensor, rule, layer, heads))
    return Checkpoint(fields=fields, tensors=tensors)


def _rule_for(
    name: str, rules: dict[str, Rule], architecture: Architecture, layers: int, where: str
) -> tuple[Rule, str]:
    stem, _, suffix = name.rpartition(".")
    found = _LAYER.fullmatch(stem)
    layer = found[1] if found else ""
    rule = rules.get(f"blk.{{}}.{found[2]}" if found else stem)
    if rule is None or suffix not in ("weight", "bias") or (layer and int(layer) >= layers):
        raise DamagedError(
            f"{where} holds the tensor {name!r}, which a {architecture.name} of {layers} layers does not have; "
            "fetch or convert it again"
        )
    return rule, layer


def _stored(
    file: GgufFile, tensor: GgufTensor, rule: Rule, layer: str, heads: Heads
) -> Iterator[tuple[str, StoredTensor]]:
    """The tensor under Hugging Face's name, or one for each of the experts that lie in it."""
    suffix = tensor.name.rpartition(".")[2]
    # A bias is a row: what concerns columns leaves it alone.
    layout = Layout.PLAIN if rule.layout is Layout.TRANSPOSED and len(tensor.shape) == 1 else rule.layout
    shape = shape_in_hf(tensor.shape, layout, heads, tensor.name)
    experts = range(tensor.shape[0]) if layout is Layout.EXPERTS else (None,)
    size = tensor.size // len(experts)
    for expert in experts:
        name = f"{rule.hf.format(layer, expert=expert)}.{suffix}"
        part = _Part(file=file, tensor=tensor, start=(expert or 0) * size, size=size, layout=layout, heads=heads)
        blocks = part.read_blocks if tensor.kind.name in BLOCKS and len(shape) == 2 else None
        yield (
            name,
            StoredTensor(shape=shape, stored_as=tensor.kind.name, read=part.read, fresh=True, read_blocks=blocks),
        )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A stored tensor, or one expert's share of it."""

    file: GgufFile
    tensor: GgufTensor
    start: int
    size: int
    layout: Layout
    heads: Heads

    def read(self) -> Tensor:
        numbers = dequantize(self._bytes(), self.tensor.kind, self.tensor.name)
        assert numbers.size == prod(self._shape())
        return torch.from_numpy(to_hf(numbers.reshape(self._shape()), self.layout, self.heads))

    def read_blocks(self) -> Blocks:
        rows = self._shape()[0]
        levels, scales, minima = read_blocks(self._bytes(), self.tensor.kind, self.tensor.name)
        return Blocks(
            levels=torch.from_numpy(to_hf(levels.reshape(rows, -1), self.layout, self.heads)),
            scales=torch.from_numpy(to_hf(scales.reshape(rows, -1), self.layout, self.heads)),
            minima=torch.from_numpy(to_hf(minima.reshape(rows, -1), self.layout, self.heads)),
        )

    def _bytes(self) -> memoryview:
        return self.file.stored(self.tensor)[self.start : self.start + self.size]

    def _shape(self) -> tuple[int, ...]:
        return self.tensor.shape[1:] if self.layout is Layout.EXPERTS else self.tensor.shape
