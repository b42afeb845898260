"""From one format to another: written beside its place, read again, compared, and only then put there.

    SRC ──files──▶ decoder ──write──▶ draft ──files──▶ decoder        tensors, ids and scores compared ──▶ DST

A file that says anything else than its source is not left behind. What 4 bits cannot hold is no such difference:
every tensor must stay within what its type can hold, and perplexity before and after tells what that costs.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F

from ownlm.artefact import disk_errors, write_artefact
from ownlm.artefact.cache import cache_folder
from ownlm.artefact.folder import Draft, write_whole
from ownlm.artefact.write import refuse_unfit_name
from ownlm.errors import OwnlmError
from ownlm.model import Decoder
from ownlm.model.checkpoint import Checkpoint, StoredTensor
from ownlm.model.families import family_of
from ownlm.model.families.fields import dtype_fields
from ownlm.model.load import to_checkpoint
from ownlm.model.locate import GGUF_SUFFIX, Ask, locate
from ownlm.model.lora import LoraAdapter
from ownlm.opened.build import build
from ownlm.opened.files import ModelFiles, read_files
from ownlm.opened.write import write_file, write_folder

FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Root-mean-square error of a tensor as a share of its own size: what each type costs at most, blocks of 32 numbers
# that are normally distributed, with room. A tensor that was mixed up has an error of about 1.4.
_MOST_ERROR = {"F32": 1e-6, "F16": 2e-3, "BF16": 8e-3, "Q8_0": 0.02, "Q5_0": 0.1, "Q5_1": 0.1, "Q4_0": 0.2, "Q4_1": 0.2}
_LOSSLESS = 1e-3
# A change of which nothing is left is as large as what was rounded away, but for float32's own rounding.
MUST_CHANGE = 1.01
_LEAST_TOKENS, _MOST_TOKENS = 20, 512
# Far more text than that many tokens hold: the rest of a long file is not cut into tokens for nothing.
MOST_CHARACTERS = 32 * _MOST_TOKENS
# Who ends a target so wants a file of a format that is not written.
_OTHER_FILES = frozenset({".bin", ".ckpt", ".ggml", ".h5", ".json", ".onnx", ".pkl", ".pt", ".pth", ".safetensors"})
_OTHER_TARGET = "free some space, or name another target"
_TAKEN = "name another target, or add --force to move it aside"

# Prose, code, numbers, other scripts: something of all that a model may be good at.
SAMPLE = """\
The ship lay at anchor all through the winter, and nobody in the harbour could say who had sent it. In spring a boy
rowed out and found the decks swept, the lamps filled and a table laid for seven. "They will be back," he told his
mother. "Nobody lays a table for nothing."

def greatest_common_divisor(a: int, b: int) -> int:
    while b:
        a, b = b, a % b
    return a

Q: What is the boiling point of water at sea level?
A: 100 degrees Celsius, or 212 degrees Fahrenheit.

1, 1, 2, 3, 5, 8, 13, 21. Être ou ne pas être; 你好，世界; naïve café. <p class="x">&amp;</p>
"""


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What became of it; `moved` is where what stood in its place is now.

    `largest_difference` is of logits on the sample, `agreement` the share of its places where the likeliest token is
    the same; perplexities are a token's, and compare models of one tokenizer alone, which bits per byte do not need.
    `change_to_rounding`: of an adapter's model, the norm of its change to the weights over that of what writing them
    rounded away; below MUST_CHANGE the change may be lost. `context_cut_to`: tokens at which GGUF's context ends before
    the source's, None where not.
    """

    path: Path
    moved: Path | None
    bytes: int
    stored_as: Mapping[str, int]
    lossless: bool
    largest_difference: float
    agreement: float
    perplexity_before: float
    perplexity_after: float
    bits_per_byte_before: float
    bits_per_byte_after: float
    context_cut_to: int | None = None
    change_to_rounding: float | None = None


def convert(
    source: str | Path,
    target: str | Path,
    *,
    quantization: str | None = None,
    text: str = SAMPLE,
    force: bool = False,
    ask: Ask | None = None,
) -> Converted:
    """Write the model `source` to `target`: a .gguf file, or else a Hugging Face folder.

    quantization: F32, F16 or BF16, and for GGUF also Q8_0, Q4_0, Q4_1, Q5_0, Q5_1; by default the smallest float that
    holds what the source holds. `text` is what scores and perplexity are compared on, its beginning at most; they say
    most on what the model is good at. An existing target is refused, or with `force` moved aside.
    """
    target = Path(target)
    refuse_unfit_name(target)
    to_gguf = target.suffix.lower() == GGUF_SUFFIX
    if target.suffix.lower() in _OTHER_FILES:
        raise OwnlmError(
            f"{target} cannot be written; name a file that ends in {GGUF_SUFFIX}, or a folder without such an ending"
        )
    files = read_files(locate(source, ask=ask))
    ids = files.tokenizer.prompt_ids(text[:MOST_CHARACTERS])[:_MOST_TOKENS]
    if len(ids) < _LEAST_TOKENS:
        raise OwnlmError(f"the text to compare on has fewer than {_LEAST_TOKENS} tokens; give a longer one")
    # An adapter's change is finer than what the file of its base holds.
    enough = "F32" if files.adapter else as_wide_as(files.checkpoint, matrices_alone=to_gguf)
    kind = enough if quantization is None else quantization.upper()
    if kind not in (_MOST_ERROR if to_gguf else FLOATS):
        known = ", ".join(_MOST_ERROR if to_gguf else FLOATS)
        more = "" if to_gguf or kind not in _MOST_ERROR else f"; {kind} is for a target that ends in {GGUF_SUFFIX}"
        raise OwnlmError(f"quantization is {quantization!r}; choose one of {known}{more}")
    refuse_what_must_stay(target, files.place)
    with disk_errors(target, fix=_OTHER_TARGET):
        if target.exists() and not force:
            raise OwnlmError(f"{target} exists already; {_TAKEN}")
    before = build(files)
    ids = files.tokenizer.prompt_ids(text)[: min(_MOST_TOKENS, before.config.max_position_embeddings)]
    if len(ids) < 2:
        raise OwnlmError(f"{files.place} reads one token at most, so nothing can be compared; take another model")
    if before.config.max_position_embeddings < 2:
        raise OwnlmError(f"{files.place} reads one token at most, so nothing can be compared; take another model")
    checkpoint = to_checkpoint(before)
    with _draft(target, files, force=force) as draft:
        if to_gguf:
            write_file(draft.path, checkpoint, files, quantization=kind)
        else:
            write_folder(draft.path, cast(checkpoint, kind), files)
        written = read_files(draft.path)
        _check_tensors(checkpoint, written.checkpoint, norm_offset=before.config.norm_offset)
        _check_tokens(files, written)
        after = build(written)
        kept = _change_to_rounding(files, before, checkpoint, written.checkpoint)
        facts = _compare(before, after, ids, [len(files.tokenizer.token_bytes(id)) for id in ids])
        stored = Counter(tensor.stored_as for tensor in written.checkpoint.tensors.values())
        lossless = all(FLOATS.get(name) is torch.float32 for name in stored) or kind == enough
        if lossless and facts["largest_difference"] > _LOSSLESS:
            raise OwnlmError(
                f"the written model's scores differ by {facts['largest_difference']:.3g} from its source's, so nothing "
                "was kept; please report it, with the source"
            )
    context = after.config.max_position_embeddings
    return Converted(
        path=target,
        moved=draft.moved,
        bytes=_size(target),
        stored_as=dict(stored.most_common()),
        lossless=lossless,
        context_cut_to=context if context < before.config.max_position_embeddings else None,
        change_to_rounding=kept,
        **facts,
    )


def refuse_what_must_stay(target: Path, source: Path) -> None:
    """To move a folder aside moves all that lies in it: not the source, nor where the user or the cache is."""
    try:
        here = target.resolve()
    except RuntimeError:
        raise OwnlmError(f"{target} is a link that leads to itself; name another target") from None
    if here == source.resolve():
        raise OwnlmError(f"{target} is the source itself; name another target")
    for kept, what in ((source, "the source"), (Path.cwd(), "the current folder"), (cache_folder(), "ownlm's cache")):
        if kept.resolve().is_relative_to(here):
            raise OwnlmError(f"{target} holds {what}, which --force would move aside; name another target")


@contextmanager
def _draft(target: Path, files: ModelFiles, *, force: bool) -> Iterator[Draft]:
    """Where to write; it takes the target's place at the end, unless something was raised."""
    if target.suffix.lower() != GGUF_SUFFIX:
        how = {"converted_from": files.place.name}
        with write_artefact(target, files.kind, how=how, force=force, fix=_OTHER_TARGET, taken=_TAKEN) as draft:
            yield draft
        return
    with write_whole(target, force=force, fix=_OTHER_TARGET, other="name another target") as draft:
        yield draft


def as_wide_as(checkpoint: Checkpoint, *, matrices_alone: bool) -> str:
    """The smallest float type that holds every tensor as it is stored; in GGUF vectors are F32 anyhow."""
    tensors = checkpoint.tensors.values()
    stored = {tensor.stored_as for tensor in tensors if len(tensor.shape) > 1 or not matrices_alone}
    return stored.pop() if len(stored) == 1 and stored <= {"F16", "BF16"} else "F32"


def cast(checkpoint: Checkpoint, kind: str) -> Checkpoint:
    dtype = FLOATS[kind]

    def as_kind(tensor: StoredTensor) -> StoredTensor:
        return replace(tensor, stored_as=kind, read=lambda: tensor.read().to(dtype))

    tensors = {key: as_kind(tensor) for key, tensor in checkpoint.tensors.items()}
    return replace(checkpoint, fields={**checkpoint.fields, **dtype_fields(dtype)}, tensors=tensors)


def _check_tensors(before: Checkpoint, after: Checkpoint, *, norm_offset: float) -> None:
    """Every tensor is there, and as near to its source as its type can be.

    GGUF holds the sum of a norm and its family's offset (Gemma's 1 + w), rounded to float32: of a w far smaller than
    the offset that takes more than a millionth, of the sum, which is what is computed with, it does not.
    """
    if missing := sorted(before.tensors.keys() ^ after.tensors.keys()):
        raise OwnlmError(
            f"the written model has other tensors than its source ({missing[0]}), so nothing was kept; please report it"
        )
    for name, stored in after.tensors.items():
        old, new = before.tensors[name].read().float(), stored.read().float()
        if old.shape != new.shape:
            raise OwnlmError(f"{name} lost its shape in the written model, so nothing was kept; please report it")
        if old.ndim == 1 and norm_offset:
            old, new = old + norm_offset, new + norm_offset
        error = float((new - old).norm() / old.norm().clamp(min=1e-30))
        if not error <= _MOST_ERROR[stored.stored_as]:
            raise OwnlmError(
                f"{name} written as {stored.stored_as} differs by {error:.2g} of its size from the source, so nothing "
                "was kept; choose a wider type, such as F16 or F32"
            )


def _change_to_rounding(files: ModelFiles, model: Decoder, before: Checkpoint, after: Checkpoint) -> float | None:
    """A change finer than the steps of 4 bits is rounded away, and the file says what the base would."""
    if files.adapter is None:
        return None
    base = family_of(files.checkpoint.fields).TENSORS.found(files.checkpoint.tensors)
    change, rounding = 0.0, 0.0
    for pair in LoraAdapter.load(files.adapter, model).each():
        merged = before.tensors[pair.stored.name].read().float()
        change += float((merged - base[pair.stored.name].read().float()).norm()) ** 2
        rounding += float((after.tensors[pair.stored.name].read().float() - merged).norm()) ** 2
    return math.sqrt(change / rounding) if rounding else None


def _check_tokens(before: ModelFiles, after: ModelFiles) -> None:
    same_template = (before.template and before.template.jinja) == (after.template and after.template.jinja)
    if before.tokenizer.encode(SAMPLE) != after.tokenizer.encode(SAMPLE) or not same_template:
        # GGUF says in few words how text is cut; a folder holds the source's own file.
        fix = "write a folder instead" if after.place.is_file() else "please report it"
        raise OwnlmError(f"the written model cuts text otherwise than its source, so nothing was kept; {fix}")
    # In GGUF what ends an answer is told by name, which may find more.
    if not set(before.end_ids) <= set(after.end_ids):
        raise OwnlmError(
            f"an answer of the source ends at the tokens {sorted(before.end_ids)}, and the written model can say "
            f"{sorted(after.end_ids)} alone, so nothing was kept; write a folder instead, or list fewer as eos_token_id"
        )


@torch.inference_mode()
def _compare(before: Decoder, after: Decoder, ids: list[int], sizes: list[int]) -> dict[str, float]:
    """`sizes`: how many bytes each id stands for."""
    ids = ids[: min(model.config.max_position_embeddings for model in (before, after))]
    tokens_per_byte = (len(ids) - 1) / max(1, sum(sizes[1 : len(ids)]))
    old_TV, new_TV = (model(torch.tensor([ids]))[0].float() for model in (before, after))
    if not bool(new_TV.isfinite().all()):
        raise OwnlmError("the written model's scores are not finite, so nothing was kept; choose a wider type")
    nats = [float(F.cross_entropy(logits_TV[:-1], torch.tensor(ids[1:]))) for logits_TV in (old_TV, new_TV)]
    # Infinite where a float ends.
    perplexities = [math.exp(mean) if mean < 700 else math.inf for mean in nats]
    bits_per_byte = [mean / math.log(2) * tokens_per_byte for mean in nats]
    return {
        "largest_difference": float((old_TV - new_TV).abs().max()),
        "agreement": float((old_TV.argmax(-1) == new_TV.argmax(-1)).double().mean()),
        **dict(zip(("perplexity_before", "perplexity_after"), perplexities, strict=True)),
        **dict(zip(("bits_per_byte_before", "bits_per_byte_after"), bits_per_byte, strict=True)),
    }


def _size(path: Path) -> int:
    parts = path.iterdir() if path.is_dir() else [path]
    return sum(part.stat().st_size for part in parts if part.is_file())
