"""LoRA adapters: small matrices that change what a model's linear layers do (arXiv:2106.09685), in PEFT's folders.

    adapter_config.json  adapter_model.safetensors ──▶ LoraAdapter ──▶ merged into a decoder's weights, or
                                                                       beside them, for some rows of a step

A layer W gives W x + scale * B (A x); with DoRA each output is then rescaled (dora.py). One forward pass may hold
tokens of many requests, each with its own adapter:

    with adapted(decoder, [(slice(0, 7), one), (slice(7, 9), another)]):   # the rest has none
        decoder(tokens_BT)

A and B are parameters of a module, which can be trained while the decoder's own stand still.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ownlm.artefact import read_json
from ownlm.errors import OwnlmError
from ownlm.model.decoder import Decoder
from ownlm.model.dora import Rescale, rescales_of, row_norms
from ownlm.model.lora_folder import CONFIG, WEIGHTS, read_config, read_weights, token_ids, write_folder
from ownlm.model.lora_pair import LoraConfig, LoraPair, matrices, sizes
from ownlm.model.projection import Adapted, Rows
from ownlm.model.token_rows import TokenRows


class Change(NamedTuple):
    a_rE: Tensor
    b_Or: Tensor
    rescale: Rescale | None


class LoraAdapter(nn.Module):
    """`rows`: of the tokens that have their own; an adapter with such is for all of a model's requests alike."""

    def __init__(
        self, config: LoraConfig, pairs: Sequence[LoraPair], *, model_type: str, rows: TokenRows | None = None
    ) -> None:
        super().__init__()
        self.rows = rows
        self.config, self.model_type = config, model_type
        self.pairs = nn.ModuleList(pairs)
        # DoRA's norms of a decoder's stored matrices, by their names.
        self._norms: WeakKeyDictionary[Decoder, dict[str, Tensor]] = WeakKeyDictionary()

    @classmethod
    def new(
        cls,
        decoder: Decoder,
        config: LoraConfig,
        *,
        modules: Sequence[str] = (),
        tokens: Sequence[int] = (),
        seed: int = 0,
    ) -> "LoraAdapter":
        """One that changes nothing yet, as the paper has it: A random, B zero. `modules` are the layers that it is for,
        by the last part of their names in the family's files; none named: all. `tokens` get rows of their own.
        """
        known = matrices(decoder)
        names = {name.rpartition(".")[2] for name in known}
        if unknown := [module for module in modules if module not in names]:
            raise OwnlmError(f"no layer of this model is named {', '.join(unknown)}; it has {', '.join(sorted(names))}")
        widest = max(min(sizes(stored)) for stored in known.values())
        if config.rank > widest:
            raise OwnlmError(f"rank {config.rank} is more than this model's layers have, {widest}; lower it")
        generator = torch.Generator().manual_seed(seed)
        pairs = []
        for name, stored in known.items():
            if not modules or name.rpartition(".")[2] in modules:
                out, width = sizes(stored)
                a_rE = (torch.rand(config.rank, width, generator=generator) * 2 - 1) / math.sqrt(width)
                pair = LoraPair(stored, a_rE, torch.zeros(out, config.rank)).to(decoder.device)
                if config.dora:
                    pair.magnitude_O = nn.Parameter(row_norms(decoder, pair, config.scale).float())
                pairs.append(pair)
        rows = TokenRows.of(decoder, tokens) if tokens else None
        return cls(config, pairs, model_type=decoder.config.model_type, rows=rows).to(decoder.device)

    @classmethod
    def load(cls, folder: Path, decoder: Decoder) -> "LoraAdapter":
        """The adapter in `folder`, for `decoder` or another of its shape. What is not understood is refused."""
        if not (folder / CONFIG).is_file():
            raise OwnlmError(f"{folder} holds no {CONFIG}, so it is no adapter; name a folder that PEFT or ownlm wrote")
        if not (folder / WEIGHTS).is_file():
            raise OwnlmError(f"{folder} has no {WEIGHTS}; pickled weights are never opened: save them as safetensors")
        try:
            fields = read_json(folder / CONFIG, fix="copy the adapter anew")
            config = read_config(fields)
            if config.dora and _carries_one(decoder):
                raise OwnlmError(
                    "DoRA rescales what the weights alone give, and the model is an adapter itself; merge that first: "
                    "ownlm convert"
                )
            pairs, rows = read_weights(folder / WEIGHTS, config, token_ids(fields), decoder)
        except OwnlmError as error:
            raise type(error)(f"{folder}: {error}") from None
        return cls(config, pairs, model_type=decoder.config.model_type, rows=rows).to(decoder.device)

    def check(self, decoder: Decoder) -> None:
        """OwnlmError when it is for a model of another shape, or for no single request."""
        if self.rows is not None:
            raise OwnlmError(
                "the adapter has tokens of its own, which a model's other requests lack; open the adapter's folder as "
                "the model"
            )
        known = matrices(decoder)
        for pair in self.each():
            stored = known.get(pair.module)
            if stored is None or stored.shapes != pair.stored.shapes:
                raise OwnlmError(f"the adapter changes {pair.module}, which this model does not have so; take its own")

    def save(self, folder: Path, *, base: str | None = None) -> list[str]:
        """Write the adapter into `folder`, which exists; returns the files' names. `base`: where its model is."""
        return write_folder(folder, self.config, self.each(), self.rows, model_type=self.model_type, base=base)

    @torch.no_grad()
    def merge(self, decoder: Decoder) -> None:
        """Change the decoder's weights for good. Not where they are a file's 4-bit blocks."""
        if decoder.in_blocks:
            raise OwnlmError("an adapter cannot be merged into 4-bit blocks; open the model with quantize='none'")
        for layer, change in self.changes(decoder):
            weight = decoder.get_parameter(f"{layer}.weight")
            weight.add_(self.config.scale * change.b_Or @ change.a_rE)
            if change.rescale is not None:
                weight.mul_(change.rescale.gain_O.unsqueeze(1))
        if self.rows is not None:
            self.rows.merge(decoder)
        self._norms.pop(decoder, None)

    def changes(self, decoder: Decoder) -> Iterator[tuple[str, "Change"]]:
        """What is done to each layer, by its name."""
        for pair in self.each():
            rescales: list[Rescale | None] = [None] * len(pair.layers)
            if pair.magnitude_O is not None:
                rescales = list(rescales_of(decoder, pair, self._norm(decoder, pair)))
            for (layer, b_Or), rescale in zip(pair.by_layer(), rescales, strict=True):
                yield layer, Change(pair.a_rE, b_Or, rescale)

    def _norm(self, decoder: Decoder, pair: LoraPair) -> Tensor:
        """Kept for answers, token after token. Whoever takes gradients changes A and B, so then it is computed anew."""
        known = self._norms.setdefault(decoder, {})
        if torch.is_grad_enabled():
            known.pop(pair.module, None)
            return row_norms(decoder, pair, self.config.scale)
        if pair.module not in known:
            known[pair.module] = row_norms(decoder, pair, self.config.scale)
        return known[pair.module]

    def digest(self) -> str:
        """A hash of all that it does to a model."""
        found = hashlib.sha256(repr((self.config, self.model_type, self.rows and self.rows.ids)).encode())
        for name, parameter in self.named_parameters():
            found.update(name.encode())
            found.update(parameter.detach().cpu().float().numpy().tobytes())
        return found.hexdigest()

    def each(self) -> list[LoraPair]:
        return cast("list[LoraPair]", list(self.pairs))


@contextmanager
def adapted(decoder: Decoder, spans: Sequence[tuple[Rows, LoraAdapter]]) -> Iterator[None]:
    """While it lasts, rows T of the decoder's tokens_BT go through the adapter that stands beside them."""
    undo: list[Callable[[], object]] = []
    try:
        for rows, adapter in spans:
            undo += attach(decoder, adapter, rows)
        yield
    finally:
        # These alone: others may stand beside the weights for longer.
        for take_away in undo:
            take_away()


def attach(decoder: Decoder, adapter: LoraAdapter, rows: Rows = slice(None)) -> list[Callable[[], object]]:
    """Put the adapter beside the decoder's weights, for good: calling all that is returned takes it away."""
    undo: list[Callable[[], object]] = []
    for layer, (a_rE, b_Or, rescale) in adapter.changes(decoder):
        projection, columns = decoder.places[layer]
        scale = adapter.config.scale
        one = Adapted(rows=rows, columns=columns, a_rE=a_rE, b_Or=b_Or, scale=scale, rescale=rescale)
        projection.adapted.append(one)
        undo.append(partial(projection.adapted.remove, one))
    if adapter.rows is not None:
        assert isinstance(rows, slice) and rows == slice(None), "tokens' own rows are for all of a step"
        undo += adapter.rows.attach(decoder)
    return undo


def _carries_one(decoder: Decoder) -> bool:
    """Does an adapter stand beside all rows for good? Those of requests come and go."""
    beside = [one.rows for projection in decoder.projections for one in list(projection.adapted)]
    return any(isinstance(rows, slice) and rows == slice(None) for rows in beside)
