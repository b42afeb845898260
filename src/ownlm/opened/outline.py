"""A model that is not loaded: what its files say, what it will take of memory, and how to load it.

folder or .gguf file ──headers──▶ Outline ──load──▶ Model          as often as one wants; no tensor is read before

Tokenizer, template and config stay while the weights come and go. So a prompt can be made without them, and what was
made before a model was unloaded fits the one that is loaded again: files that have changed since are refused.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ownlm.artefact import read_errors
from ownlm.engine import EngineConfig
from ownlm.engine.blocks import BLOCK
from ownlm.engine.engine import cache_blocks
from ownlm.engine.paged_cache import CACHE_DTYPES, PagedCache
from ownlm.errors import OwnlmError
from ownlm.machine import best_device
from ownlm.model import Decoder
from ownlm.model.arithmetic import Arithmetic
from ownlm.model.config import DecoderConfig
from ownlm.model.families import read_config
from ownlm.model.load import Undrawn, held_bytes
from ownlm.model.locate import locate
from ownlm.model.lora import LoraAdapter
from ownlm.opened.build import build
from ownlm.opened.embedder import Embedder, read_embedder
from ownlm.opened.files import ModelFiles, read_files
from ownlm.opened.model import Model, arithmetic_of

# An adapter's numbers are held in float32, and many are stored in half of that.
_ADAPTER_GROWS = 2

Stamp = tuple[tuple[str, int, int], ...]


@dataclass(kw_only=True)
class Outline:
    """`name`: what the user wrote for it. `files`: without their tensors. `engine`: with the size of its cache.

    `weight_bytes`, `cache_bytes`: what it takes of memory; a step's own numbers, some megabytes, come and go.
    """

    name: str
    files: ModelFiles
    config: DecoderConfig
    engine: EngineConfig
    device: str
    arithmetic: Arithmetic
    weight_bytes: int
    cache_bytes: int
    stamp: Stamp
    # As they were read to begin with; a mapping of a file is not kept longer than that.
    read: ModelFiles | None = None

    @property
    def context(self) -> int:
        assert self.engine.cache_tokens is not None
        return min(self.config.max_position_embeddings, self.engine.cache_tokens)

    def check_adapter(self, folder: Path) -> None:
        """OwnlmError where the adapter is none, or for another model."""
        with torch.device("meta"), Undrawn():
            decoder = Decoder(self.config)
        LoraAdapter.load(folder, decoder).check(decoder)

    def load(self) -> Model:
        """OwnlmError where the files cannot be read, or are others than they were."""
        read, self.read = self.read, None
        _refuse_changed(self.files.place, self.stamp)
        read = read or read_files(self.files.place)
        chosen = self.arithmetic
        files = replace(self.files, checkpoint=read.checkpoint)
        decoder = build(files, device=self.device, dtype=chosen.dtype, keep_blocks=chosen.keep_blocks)
        return Model(decoder.pack(), files, name=self.name, engine_config=self.engine)


@dataclass(frozen=True, kw_only=True)
class EmbedderOutline:
    """Of an embedding model. `embedder`: without numbers, for framing texts and telling what it can do."""

    place: Path
    embedder: Embedder
    device: str
    weight_bytes: int
    stamp: Stamp

    def load(self) -> Embedder:
        _refuse_changed(self.place, self.stamp)
        return read_embedder(self.place, name=self.embedder.name, device=self.device)


def read_outline(model: str | Path, *, engine: EngineConfig, cache_room: int, device: str | None = None) -> Outline:
    """As `load` with dtype="auto", up to the weights. `cache_room`: bytes for a cache that `engine` says nothing of."""
    files = read_files(locate(model))
    device = device or best_device()
    chosen = arithmetic_of(files, device=device, dtype="auto")
    try:
        config = read_config(files.checkpoint.fields)
        weights = held_bytes(files.checkpoint, dtype=chosen.dtype, keep_blocks=chosen.keep_blocks)
    except OwnlmError as error:
        raise type(error)(f"{files.place}: {error}") from None
    if files.adapter is not None:
        weights += adapter_bytes(files.adapter)
    tokens = cache_blocks(config, engine, room=cache_room) * BLOCK
    return Outline(
        name=str(model),
        files=replace(files, checkpoint=replace(files.checkpoint, tensors={})),
        config=config,
        engine=replace(engine, cache_tokens=tokens),
        device=device,
        arithmetic=chosen,
        weight_bytes=weights,
        cache_bytes=tokens * PagedCache.bytes_per_token(config, CACHE_DTYPES[engine.cache_dtype]),
        stamp=_stamp(files.place),
        read=files,
    )


def read_embedder_outline(model: str | Path, *, device: str | None = None) -> EmbedderOutline:
    place = locate(model)
    embedder = read_embedder(place, name=str(model), device="meta")
    return EmbedderOutline(
        place=place,
        embedder=embedder,
        device=device or best_device(),
        # In float32.
        weight_bytes=4 * sum(parameter.numel() for parameter in embedder.bert.parameters()),
        stamp=_stamp(place),
    )


def adapter_bytes(folder: Path) -> int:
    """The most that an adapter's matrices may take."""
    with read_errors(folder):
        return _ADAPTER_GROWS * sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _stamp(place: Path) -> Stamp:
    """Another one after a model's files were written anew; its README may be edited."""
    with read_errors(place):
        paths = sorted(place.iterdir()) if place.is_dir() else [place]
        kept = [path for path in paths if path == place or (path.suffix != ".md" and path.is_file())]
        return tuple((path.name, (found := path.stat()).st_size, found.st_mtime_ns) for path in kept)


def _refuse_changed(place: Path, stamp: Stamp) -> None:
    if _stamp(place) != stamp:
        raise OwnlmError(f"{place} was changed since it was first read; begin anew with what is there now")
