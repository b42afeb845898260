"""From Hugging Face's tensor names to the tensors of a GGUF file.

In:  a Checkpoint. Out: a Place for each tensor that the file will hold, with the one or, where experts are stacked,
the many that go into it. The other way, which is a look into the same table, is gguf_checkpoint.py's.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ownlm.errors import OwnlmError
from ownlm.model.checkpoint import Checkpoint, StoredTensor
from ownlm.model.formats.gguf_architectures import Architecture, Rule
from ownlm.model.formats.gguf_layouts import Layout

# Tables that are computed, not learned, and stand in some files all the same.
_COMPUTED = re.compile(r"(\.attn\.(masked_)?bias|\.attention\.(masked_)?bias|rotary_emb\.inv_freq)$")
# GPT-2's first files leave the trunk's name out.
_BARE = re.compile(r"(wte|wpe|h|ln_f)\.")
_NUMBER = re.compile(r"(?<=\.)(\d+)(?=\.)")


@dataclass(frozen=True, kw_only=True)
class Place:
    """`shape` is the GGUF tensor's; `parts` are experts in order, or one tensor."""

    name: str
    shape: tuple[int, ...]
    layout: Layout
    parts: tuple[StoredTensor, ...]


def places_in_gguf(checkpoint: Checkpoint, architecture: Architecture) -> list[Place]:
    """Every tensor's place. One without a place is refused; a tied head is left out, for it is the embedding."""
    rules = {rule.hf.replace("{expert}", "{}"): rule for rule in architecture.rules}
    head = next((rule.hf for rule in architecture.rules if rule.gguf == "output"), "lm_head")
    tied = bool(checkpoint.fields.get("tie_word_embeddings", False))
    found: dict[str, dict[int, StoredTensor]] = {}
    layouts: dict[str, Layout] = {}
    for name, tensor in checkpoint.tensors.items():
        if _COMPUTED.search(name) or (tied and name in (f"{head}.weight", "lm_head.weight")):
            continue
        rule, numbers, suffix = _rule_for(_spelt(name, architecture), rules, architecture)
        gguf = f"{rule.gguf.format(*numbers[:1])}.{suffix}"
        expert = numbers[1] if rule.layout is Layout.EXPERTS else 0
        found.setdefault(gguf, {})[expert] = tensor
        layouts[gguf] = rule.layout
    if tied and architecture.own_head and "token_embd.weight" in found:
        # llama.cpp asks for a head of its own here.
        found["output.weight"], layouts["output.weight"] = found["token_embd.weight"], Layout.PLAIN
    if "output.weight" not in found and not tied:
        raise OwnlmError(f"the model lacks {head}.weight, and ties no head to the embedding; restore its files")
    experts = checkpoint.fields.get("num_experts")
    return [_place(name, parts, layouts[name], experts) for name, parts in found.items()]


def _spelt(name: str, architecture: Architecture) -> str:
    if architecture.name == "gpt2" and _BARE.match(name):
        return f"transformer.{name}"
    if architecture.name == "gptneox" and name == "lm_head.weight":
        return "embed_out.weight"
    return name


def _rule_for(name: str, rules: dict[str, Rule], architecture: Architecture) -> tuple[Rule, list[int], str]:
    stem, _, suffix = name.rpartition(".")
    numbers = [int(number) for number in _NUMBER.findall(f"{stem}.")]
    rule = rules.get(_NUMBER.sub("{}", f"{stem}.").removesuffix("."))
    if rule is None or suffix not in ("weight", "bias"):
        raise OwnlmError(
            f"the tensor {name!r} has no place in a GGUF file of architecture {architecture.name}; "
            "write a folder instead"
        )
    return rule, numbers, suffix


def _place(name: str, parts: dict[int, StoredTensor], layout: Layout, experts: int | None) -> Place:
    shape = parts[min(parts)].shape
    if layout is Layout.EXPERTS:
        if sorted(parts) != list(range(experts or 0)) or len({part.shape for part in parts.values()}) != 1:
            raise OwnlmError(f"{name} must hold {experts} experts of one shape; the model has {len(parts)}")
        shape = (len(parts), *shape)
    elif layout is Layout.TRANSPOSED:
        if len(shape) == 1:
            layout = Layout.PLAIN
        shape = shape[::-1]
    ordered: Iterable[StoredTensor] = (parts[number] for number in sorted(parts))
    return Place(name=name, shape=shape, layout=layout, parts=tuple(ordered))
