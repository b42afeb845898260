"""From a model's files to the decoder that they hold, and back.

files ──formats/──▶ Checkpoint ──▶ Decoder            build_decoder, read_decoder
files ◀──formats/── Checkpoint ◀── Decoder            to_checkpoint, write_decoder
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.checkpoint import Blocks, Checkpoint, StoredTensor
from ownlm.model.decoder import Decoder
from ownlm.model.experts import Experts
from ownlm.model.families import Family, family_of, read_config
from ownlm.model.families.fields import dtype_fields
from ownlm.model.families.tensor_map import Stored
from ownlm.model.formats.huggingface import read_checkpoint, write_checkpoint
from ownlm.model.formats.safetensors_file import STORED_AS
from ownlm.model.four_bits import fitting, four_bits_kernel, packed, to_blocks
from ownlm.model.norm import LayerNorm, RMSNorm
from ownlm.model.projection import Projection
from ownlm.model.quantized import dense_type, int4_kernel, int8_head, kept_in_blocks, takes_int8

# Parameters lie in memory of their own: a file's mapping ends, and parts of a fused tensor would share one.
_OWN = torch.contiguous_format


def read_decoder(folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Decoder:
    """The decoder in a Hugging Face folder, in evaluation mode."""
    checkpoint = read_checkpoint(folder)
    try:
        return build_decoder(checkpoint, device=device, dtype=dtype)
    except OwnlmError as error:
        raise type(error)(f"{folder}: {error}") from None


def write_decoder(folder: Path, model: Decoder, *, eos_ids: Sequence[int], pad_id: int | None) -> list[str]:
    """Write the model's files into `folder`, each whole; returns their names. `eos_ids` end an answer; no BOS."""
    return write_checkpoint(folder, with_ends(to_checkpoint(model), bos_id=None, eos_ids=eos_ids, pad_id=pad_id))


def with_ends(checkpoint: Checkpoint, *, bos_id: int | None, eos_ids: Sequence[int], pad_id: int | None) -> Checkpoint:
    """The checkpoint with its special ids: config.json names the first that ends, generation_config.json all."""
    ends = {"bos_token_id": bos_id, "eos_token_id": list(eos_ids), "pad_token_id": pad_id}
    fields = {**checkpoint.fields, **ends, "eos_token_id": eos_ids[0] if eos_ids else None}
    return replace(checkpoint, fields=fields, generation={**checkpoint.generation, **ends})


def build_decoder(
    checkpoint: Checkpoint,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    keep_blocks: bool = False,
    four_bits: bool = False,
) -> Decoder:
    """The decoder of a checkpoint, in evaluation mode. Every tensor of it is used and every parameter set.

    `dtype` is the matrices'; norms and routers are never below float32. With `keep_blocks` layers that a file stores in
    4 bits compute on these and have no parameters: such a decoder, always on the processor, can only be asked. With
    `four_bits` all layers whose rows are whole blocks are kept so, quantised here if they are not yet, and an adapter
    beside them can be trained.

    Nothing is allocated before names and shapes are known to fit; then tensors are read one by one, so the peak of
    memory is the model and its largest tensor.
    """
    family, config = family_of(checkpoint.fields), read_config(checkpoint.fields)
    found = family.TENSORS.found(checkpoint.tensors)
    _refuse_layers_that_are_not_there(config.num_hidden_layers, found)
    with torch.device("meta"), Undrawn():
        decoder = Decoder(config)
    layout = _layout(decoder, family)
    head = _stored_head(decoder, family, found)
    _check_fit(layout, found, besides={head} if head else set())
    kept = kept_in_blocks(decoder.places, layout, found) if keep_blocks else {}
    kept = fitting(decoder.places) if four_bits else kept
    in_blocks = {weight for weights in kept.values() for weight in weights}
    blocks: dict[str, Blocks] = {}
    on_cpu = torch.device(device).type == "cpu"
    precise, wide = _precise(decoder), torch.promote_types(dtype, torch.float32)
    for stored in layout.values():
        if in_blocks.issuperset(stored.parameters):
            blocks |= _packed_blocks(stored, found[stored.name]) if four_bits else {}
            continue
        tensor = _read(stored, found[stored.name])
        for parameter, part in zip(stored.parameters, stored.split(tensor), strict=True):
            kind = wide if parameter in precise else dtype
            own = found[stored.name].fresh and _is_whole(part, tensor) and part.dtype == kind and on_cpu
            if not own:
                part = torch.empty_like(part, device=device, dtype=kind, memory_format=_OWN).copy_(part)
            _set(decoder, parameter, part)
    decoder.tie()
    if keep_blocks:
        _set_kernels(decoder, kept, layout, found)
    for projection, weights in kept.items() if four_bits else ():
        parts = [blocks.pop(name) for name in weights]
        projection.kernel = four_bits_kernel(parts, _bias(projection), device)
    if head is not None:
        _check_tied(decoder, found[head].read())
    for rope in (decoder.rope, decoder.local_rope):
        if rope is not None:
            rope.reset(decoder.device)
    return decoder.eval()


def to_checkpoint(decoder: Decoder) -> Checkpoint:
    """The decoder as its family's files hold it. Tensors are laid out as they are read, one at a time."""
    family = family_of({"model_type": decoder.config.model_type})
    fields = family.write_config(decoder.config)
    if family.read_config(fields) != decoder.config:
        raise OwnlmError(
            f"this decoder's configuration is not one of the family {decoder.config.model_type}, "
            "so other tools could not open it; name the right model_type"
        )
    # One type for all, the matrices', though norms are computed in float32 beside lower ones.
    dtype = decoder.lm_head.weight.dtype
    fields = {**fields, **dtype_fields(dtype)}
    parameters = dict(decoder.named_parameters())
    if decoder.in_blocks:
        raise OwnlmError(
            "a model that is open on its file's 4-bit blocks cannot be written; open it with quantize='none'"
        )

    def stored(tensor: Stored) -> StoredTensor:
        parts = [parameters[name] for name in tensor.parameters]
        return StoredTensor(
            shape=tensor.shape,
            stored_as=STORED_AS[dtype],
            read=lambda: tensor.join([part.detach().to(dtype) for part in parts]),
        )

    layout = _layout(decoder, family)
    return Checkpoint(fields=fields, tensors={name: stored(tensor) for name, tensor in layout.items()})


def _read(stored: Stored, tensor: StoredTensor) -> Tensor:
    numbers = tensor.read()
    if not is_finite(numbers):
        raise DamagedError(f"{stored.name} holds numbers that are not finite; restore the model's files")
    return numbers


def _is_whole(part: Tensor, tensor: Tensor) -> bool:
    """Does it take all the memory that it lies in, in order?"""
    return part.is_contiguous() and part.untyped_storage().nbytes() == part.nbytes


def _packed_blocks(stored: Stored, tensor: StoredTensor) -> dict[str, Blocks]:
    """The parameters of a stored tensor in blocks: its own, or made here of each parameter's rows."""
    if tensor.read_blocks is not None:
        parts = stored.split_blocks(tensor.read_blocks())
    else:
        parts = [to_blocks(part, stored.name) for part in stored.split(_read(stored, tensor))]
    return {name: packed(part) for name, part in zip(stored.parameters, parts, strict=True)}


def _bias(projection: Projection) -> Tensor | None:
    biases = [layer.bias.detach() for layer in projection.layers if layer.bias is not None]
    return torch.cat(biases) if biases else None


def is_finite(tensor: Tensor) -> bool:
    """A sum is finite only if all numbers are, and takes a twentieth of the time of looking at each.

    Large numbers may overflow it: then each is looked at.
    """
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())


def _precise(decoder: Decoder) -> set[str]:
    """Parameters that are few and decide much: norms, and what chooses experts."""
    routers = {module.gate for module in decoder.modules() if isinstance(module, Experts)}
    few = {
        name: module
        for name, module in decoder.named_modules()
        if isinstance(module, RMSNorm | LayerNorm) or module in routers
    }
    return {f"{name}.{leaf}" for name, module in few.items() for leaf, _ in module.named_parameters()}


def _set_kernels(
    decoder: Decoder,
    kept: Mapping[Projection, Sequence[str]],
    layout: Mapping[str, Stored],
    found: Mapping[str, StoredTensor],
) -> None:
    """Give what is kept in blocks its kernels; biases and all else are set already."""
    place = {parameter: stored for stored in layout.values() for parameter in stored.parameters}
    dense = dense_type(list(kept))
    for projection, weights in kept.items():
        parts: dict[str, Blocks] = {}
        for name in dict.fromkeys(place[weight].name for weight in weights):
            read = found[name].read_blocks
            assert read is not None
            parts |= zip(layout[name].parameters, layout[name].split_blocks(read()), strict=True)
        kinds = sorted({found[place[weight].name].stored_as for weight in weights})
        projection.kernel = int4_kernel(
            [parts[weight] for weight in weights],
            name=f"int4 blocks ({' and '.join(kinds)})",
            bias=_bias(projection),
            dense=dense,
        )
    head = "model.embed_tokens.weight" if decoder.config.tie_word_embeddings else "lm_head.weight"
    stored_as = found[place[head].name].stored_as
    if decoder.outward not in kept and takes_int8(decoder.lm_head.weight, stored_as):
        decoder.outward.kernel = int8_head(decoder.lm_head.weight, name=f"int8 head ({stored_as})")


class Undrawn(TorchFunctionMode):
    """No random numbers for weights that a file replaces: on the meta device torch loads a compiler to draw them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        drawn = getattr(func, "__module__", "") == nn.init.__name__
        return given["tensor"] if drawn and "tensor" in given else func(*args, **given)


def _layout(decoder: Decoder, family: Family) -> dict[str, Stored]:
    # A tied head is the embedding, which named_parameters gives once.
    shapes = {name: tuple(parameter.shape) for name, parameter in decoder.named_parameters()}
    return family.TENSORS.layout(shapes, decoder.config.num_attention_heads)


def _stored_head(decoder: Decoder, family: Family, found: Mapping[str, StoredTensor]) -> str | None:
    """Where a file keeps a head although the config ties it to the embedding."""
    if not decoder.config.tie_word_embeddings:
        return None
    name = next(iter(family.TENSORS.layout({"lm_head.weight": decoder.lm_head.weight.shape}, 1)))
    return name if name in found and found[name].shape == tuple(decoder.lm_head.weight.shape) else None


def _check_tied(decoder: Decoder, head: Tensor) -> None:
    weight = decoder.lm_head.weight
    if not torch.equal(head.to(device=weight.device, dtype=weight.dtype), weight):
        raise DamagedError(
            "the configuration ties the head to the embedding, but the file's head is another matrix; "
            "set tie_word_embeddings to false if it is meant"
        )


def _refuse_layers_that_are_not_there(layers: int, found: Mapping[str, StoredTensor]) -> None:
    """A config that claims more layers than the file has tensors would only cost time."""
    if layers > len(found):
        raise DamagedError(
            f"the tensors do not fit the model's configuration: it names {layers} layers, "
            f"and there are {len(found)} tensors; "
            "restore the model's files"
        )


def _check_fit(layout: Mapping[str, Stored], found: Mapping[str, StoredTensor], *, besides: set[str]) -> None:
    misfits = [
        *(f"{name} is missing" for name in layout if name not in found),
        *(f"{name} belongs to no layer" for name in found if name not in layout and name not in besides),
        *(
            f"{name} has shape {list(found[name].shape)}, not {list(stored.shape)}"
            for name, stored in layout.items()
            if name in found and tuple(found[name].shape) != stored.shape
        ),
    ]
    if misfits:
        more = f" (and {len(misfits) - 3} more)" if len(misfits) > 3 else ""
        raise DamagedError(
            f"the tensors do not fit the model's configuration: {'; '.join(misfits[:3])}{more}; "
            "restore the model's files"
        )


def _set(decoder: Decoder, name: str, tensor: Tensor) -> None:
    module, _, leaf = name.rpartition(".")
    setattr(decoder.get_submodule(module), leaf, nn.Parameter(tensor))
