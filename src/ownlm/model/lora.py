"""LoRA adapters: small matrices that change what a model's linear layers do (arXiv:2106.09685), in PEFT's folders.

    adapter_config.json  adapter_model.safetensors ──▶ LoraAdapter ──▶ merged into a decoder's weights, or
                                                                       beside them, for some rows of a step

A layer W gives W x + scale * B (A x). One forward pass may hold tokens of many requests, each with its own adapter:

    with adapted(decoder, [(slice(0, 7), one), (slice(7, 9), another)]):   # the rest has none
        decoder(tokens_BT)

A and B are parameters of a module, which can be trained while the decoder's own stand still.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ownlm.artefact import read_json, write_atomically
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.checks import flag, number, shown, whole
from ownlm.model.decoder import Decoder
from ownlm.model.families import family_of
from ownlm.model.families.tensor_map import Stored
from ownlm.model.formats.safetensors_file import open_tensors, save_tensors
from ownlm.model.locate import ADAPTER_CONFIG
from ownlm.model.projection import Adapted, Projection, Rows

CONFIG, WEIGHTS = ADAPTER_CONFIG, "adapter_model.safetensors"
_PREFIX = "base_model.model."
_READ = {"peft_type", "r", "lora_alpha", "use_rslora", "bias", "init_lora_weights"}
# They tell where an adapter comes from or how it was trained, or what the tensors' names and shapes tell too.
_TOLD = {"base_model_name_or_path", "revision", "task_type", "peft_version", "inference_mode", "lora_dropout"}
_TOLD |= {"auto_mapping", "qalora_group_size", "ensure_weight_tying", "exclude_modules"}
_TOLD |= {"megatron_core", "target_modules", "fan_in_fan_out"}
# Ways to begin that leave the base as it is; the others change it, so that the adapter fits another model.
_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    rank: int
    alpha: float
    rank_stabilised: bool = False  # arXiv:2312.03732

    @property
    def scale(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)


class LoraPair(nn.Module):
    """A and B of one stored matrix, which may be several layers' (GPT-2's c_attn is q, k and v)."""

    def __init__(self, stored: Stored, a_rE: Tensor, b_Or: Tensor) -> None:
        super().__init__()
        # PEFT keeps B as [out, rank], however the matrix itself is stored.
        self.stored = replace(stored, rule=replace(stored.rule, transposed=False))
        self.a_rE, self.b_Or = nn.Parameter(a_rE), nn.Parameter(b_Or)

    @property
    def module(self) -> str:
        """The name in the family's files."""
        return self.stored.name.removesuffix(".weight")

    def by_layer(self) -> Iterator[tuple[str, Tensor]]:
        """Each layer's name, and its rows of B."""
        names = (parameter.removesuffix(".weight") for parameter in self.stored.parameters)
        return zip(names, self.stored.split(self.b_Or), strict=True)


class LoraAdapter(nn.Module):
    def __init__(self, config: LoraConfig, pairs: Sequence[LoraPair], *, model_type: str) -> None:
        super().__init__()
        self.config, self.model_type = config, model_type
        self.pairs = nn.ModuleList(pairs)

    @classmethod
    def new(cls, decoder: Decoder, config: LoraConfig, *, modules: Sequence[str] = (), seed: int = 0) -> "LoraAdapter":
        """One that changes nothing yet, as the paper has it: A random, B zero. `modules` are the layers that it is for,
        by the last part of their names in the family's files; none named: all.
        """
        generator = torch.Generator().manual_seed(seed)
        pairs = []
        for name, stored in _matrices(decoder).items():
            if not modules or name.rpartition(".")[2] in modules:
                out, width = _sizes(stored)
                a_rE = (torch.rand(config.rank, width, generator=generator) * 2 - 1) / math.sqrt(width)
                pairs.append(LoraPair(stored, a_rE, torch.zeros(out, config.rank)))
        known = {name.rpartition(".")[2] for name in _matrices(decoder)}
        if unknown := [module for module in modules if module not in known]:
            raise OwnlmError(f"no layer of this model is named {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        return cls(config, pairs, model_type=decoder.config.model_type).to(decoder.device)

    @classmethod
    def load(cls, folder: Path, decoder: Decoder) -> "LoraAdapter":
        """The adapter in `folder`, for `decoder` or another of its shape. What is not understood is refused."""
        if not (folder / CONFIG).is_file():
            raise OwnlmError(f"{folder} holds no {CONFIG}, so it is no adapter; name a folder that PEFT or ownlm wrote")
        if not (folder / WEIGHTS).is_file():
            raise OwnlmError(f"{folder} has no {WEIGHTS}; pickled weights are never opened: save them as safetensors")
        try:
            config = _read_config(read_json(folder / CONFIG, fix="copy the adapter anew"))
            pairs = _read_pairs(folder / WEIGHTS, config, decoder)
        except OwnlmError as error:
            raise type(error)(f"{folder}: {error}") from None
        return cls(config, pairs, model_type=decoder.config.model_type).to(decoder.device)

    def check(self, decoder: Decoder) -> None:
        """OwnlmError when it is for a model of another shape."""
        known = _matrices(decoder)
        for pair in self.each():
            stored = known.get(pair.module)
            if stored is None or stored.shapes != pair.stored.shapes:
                raise OwnlmError(f"the adapter changes {pair.module}, which this model does not have so; take its own")

    def save(self, folder: Path, *, base: str | None = None) -> list[str]:
        """Write the adapter into `folder`, which exists; returns the files' names. `base`: where its model is."""
        fields = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": self.config.rank,
            "lora_alpha": self.config.alpha,
            "use_rslora": self.config.rank_stabilised,
            "target_modules": sorted({pair.module.rpartition(".")[2] for pair in self.each()}),
            "bias": "none",
            "lora_dropout": 0.0,
            # Conv1D, as transformers' GPT-2 has it.
            "fan_in_fan_out": self.model_type == "gpt2",
            "inference_mode": True,
        }
        tensors = {}
        for pair in self.each():
            for which, matrix in (("A", pair.a_rE), ("B", pair.b_Or)):
                name = f"{_PREFIX}{pair.module}.lora_{which}.weight"
                tensors[name] = matrix.detach().cpu().contiguous()
        save_tensors(folder / WEIGHTS, tensors)
        write_atomically(folder / CONFIG, json.dumps(fields, indent=2) + "\n")
        return [CONFIG, WEIGHTS]

    @torch.no_grad()
    def merge(self, decoder: Decoder) -> None:
        """Change the decoder's weights for good. Not where they are a file's 4-bit blocks."""
        if decoder.in_blocks:
            raise OwnlmError("an adapter cannot be merged into 4-bit blocks; open the model with quantize='none'")
        for pair in self.each():
            for layer, b_Or in pair.by_layer():
                weight = decoder.get_parameter(f"{layer}.weight")
                weight.add_(self.config.scale * b_Or @ pair.a_rE)

    @torch.no_grad()
    def norms(self) -> dict[str, float]:
        """How much it changes each stored matrix that it changes, by the names of the family's files."""
        scale = self.config.scale
        return {pair.stored.name: float((scale * pair.b_Or @ pair.a_rE).norm()) for pair in self.each()}

    def digest(self) -> str:
        """A hash of all that it does to a model."""
        found = hashlib.sha256(repr((self.config, self.model_type)).encode())
        for name, parameter in self.named_parameters():
            found.update(name.encode())
            found.update(parameter.detach().cpu().float().numpy().tobytes())
        return found.hexdigest()

    def each(self) -> list[LoraPair]:
        return cast("list[LoraPair]", list(self.pairs))


@contextmanager
def adapted(decoder: Decoder, spans: Sequence[tuple[Rows, LoraAdapter]]) -> Iterator[None]:
    """While it lasts, rows T of the decoder's tokens_BT go through the adapter that stands beside them."""
    used = []
    try:
        for rows, adapter in spans:
            used += attach(decoder, adapter, rows)
        yield
    finally:
        # These alone: others may stand beside the weights for longer.
        for projection, one in used:
            projection.adapted.remove(one)


def attach(decoder: Decoder, adapter: LoraAdapter, rows: Rows = slice(None)) -> list[tuple[Projection, Adapted]]:
    """Put the adapter beside the decoder's weights, for good; what was put where is returned."""
    used = []
    for pair in adapter.each():
        for layer, b_Or in pair.by_layer():
            projection, columns = decoder.places[layer]
            one = Adapted(rows=rows, columns=columns, a_rE=pair.a_rE, b_Or=b_Or, scale=adapter.config.scale)
            projection.adapted.append(one)
            used.append((projection, one))
    return used


def _matrices(decoder: Decoder) -> dict[str, Stored]:
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


def _sizes(stored: Stored) -> tuple[int, int]:
    return sum(shape[0] for shape in stored.shapes), stored.shapes[0][1]


def _read_config(fields: Mapping[str, Any]) -> LoraConfig:
    if fields.get("peft_type") != "LORA":
        raise OwnlmError(f"peft_type is {shown(fields.get('peft_type'))}; of adapters only LORA is computed")
    for name, value in fields.items():
        if name not in _READ | _TOLD and value not in (None, False, 0) and value not in ({}, []):
            raise OwnlmError(f"{name} is {shown(value)}, which ownlm does not compute; merge it where it was made")
    if fields.get("bias", "none") != "none":
        raise OwnlmError(f"bias is {shown(fields['bias'])}; only adapters without biases are computed")
    beginning = fields.get("init_lora_weights")
    if not any(beginning is known or (isinstance(known, str) and beginning == known) for known in _BEGINNINGS):
        raise OwnlmError(f"init_lora_weights is {shown(beginning)}, which changes the base model too; merge it first")
    return LoraConfig(
        rank=whole("r", fields.get("r"), most=2**16),
        alpha=number("lora_alpha", fields.get("lora_alpha"), most=1e6),
        rank_stabilised=flag("use_rslora", fields.get("use_rslora", False)),
    )


def _read_pairs(path: Path, config: LoraConfig, decoder: Decoder) -> list[LoraPair]:
    tensors = open_tensors(path)
    pairs, names = [], set()
    for module, stored in _matrices(decoder).items():
        keys = [f"{_PREFIX}{module}.lora_{which}.weight" for which in "AB"]
        there = [key for key in keys if key in tensors]
        if not there:
            continue
        out, width = _sizes(stored)
        matrices = []
        for key, shape in zip(keys, ((config.rank, width), (out, config.rank)), strict=True):
            if key not in tensors:
                raise DamagedError(f"{key} is missing; restore the adapter's files")
            if tensors[key].shape != shape:
                raise DamagedError(f"{key} has shape {list(tensors[key].shape)}, and this model needs {list(shape)}")
            matrix = tensors[key].read().float()
            if not bool(matrix.isfinite().all()):
                raise DamagedError(f"{key} holds numbers that are not finite; restore the adapter's files")
            matrices.append(matrix)
        pairs.append(LoraPair(stored, *matrices))
        names |= {*keys}
    if unused := sorted(tensors.keys() - names):
        raise OwnlmError(f"{unused[0]} is for nothing that an adapter may change in this model; is it another's?")
    if not pairs:
        raise DamagedError("it holds no matrices; restore the adapter's files")
    return pairs
