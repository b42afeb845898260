"""An adapter's folder in PEFT's form: what is read of it, and what is written.

    adapter_config.json            rank, alpha and how they are meant ◀──▶ LoraConfig
    adapter_model.safetensors      NAME.lora_A.weight, NAME.lora_B.weight, with DoRA NAME.lora_magnitude_vector
                                   ◀──▶ one LoraPair for each NAME, the matrix's in the family's files
                                   NAME.token_adapter.trainable_tokens_delta ◀──▶ TokenRows

What is not understood is refused: an adapter that is read in part answers wrongly.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ownlm.artefact import write_atomically
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.checkpoint import StoredTensor
from ownlm.model.checks import flag, number, shown, whole
from ownlm.model.decoder import Decoder
from ownlm.model.families import family_of
from ownlm.model.formats.safetensors_file import open_tensors, save_tensors
from ownlm.model.locate import ADAPTER_CONFIG
from ownlm.model.lora_pair import LoraConfig, LoraPair, matrices, sizes
from ownlm.model.token_rows import TokenRows

CONFIG, WEIGHTS = ADAPTER_CONFIG, "adapter_model.safetensors"
_PREFIX = "base_model.model."
_TOKENS = ".token_adapter.trainable_tokens_delta"
# Of so many tokens a row each: more are a vocabulary of their own.
_MOST_TOKENS = 1024
_READ = {"peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "bias", "init_lora_weights"}
_READ |= {"trainable_token_indices"}
# They tell where an adapter comes from or how it was trained, or what the tensors' names and shapes tell too.
_TOLD = {"base_model_name_or_path", "revision", "task_type", "peft_version", "inference_mode", "lora_dropout"}
_TOLD |= {"auto_mapping", "qalora_group_size", "ensure_weight_tying", "exclude_modules"}
_TOLD |= {"megatron_core", "target_modules", "fan_in_fan_out"}
# Ways to begin that leave the base as it is; the others change it, so that the adapter fits another model.
_BEGINNINGS = (True, False, None, "gaussian", "eva", "orthogonal")


def write_folder(
    folder: Path,
    config: LoraConfig,
    pairs: Sequence[LoraPair],
    rows: TokenRows | None,
    *,
    model_type: str,
    base: str | None,
) -> list[str]:
    """Write an adapter into `folder`, which exists; returns the files' names. `base`: where its model is."""
    fields: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "use_rslora": config.rank_stabilised,
        "use_dora": config.dora,
        "target_modules": sorted({pair.module.rpartition(".")[2] for pair in pairs}),
        "bias": "none",
        "lora_dropout": 0.0,
        # Conv1D, as transformers' GPT-2 has it.
        "fan_in_fan_out": model_type == "gpt2",
        "inference_mode": True,
    }
    tensors = {}
    for pair in pairs:
        parts = {"lora_A.weight": pair.a_rE, "lora_B.weight": pair.b_Or}
        if pair.magnitude_O is not None:
            parts["lora_magnitude_vector"] = pair.magnitude_O
        for name, part in parts.items():
            tensors[f"{_PREFIX}{pair.module}.{name}"] = part.detach().cpu().contiguous()
    if rows is not None:
        embedding, head = table_names(model_type)
        fields["trainable_token_indices"] = {embedding.rpartition(".")[2]: rows.ids}
        tensors[f"{_PREFIX}{embedding}{_TOKENS}"] = rows.embedding_NE.detach().cpu().contiguous()
        if rows.head_NE is not None:
            fields["trainable_token_indices"][head] = rows.ids
            tensors[f"{_PREFIX}{head}{_TOKENS}"] = rows.head_NE.detach().cpu().contiguous()
    save_tensors(folder / WEIGHTS, tensors)
    write_atomically(folder / CONFIG, json.dumps(fields, indent=2) + "\n")
    return [CONFIG, WEIGHTS]


def read_config(fields: Mapping[str, Any]) -> LoraConfig:
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
        dora=flag("use_dora", fields.get("use_dora", False)),
    )


def token_ids(fields: Mapping[str, Any]) -> list[int]:
    """The tokens that have rows of their own: one list, whether it is named for the embedding, the head or both."""
    given = fields.get("trainable_token_indices") or []
    lists = list(given.values()) if isinstance(given, dict) else [given]
    ids = lists[0] if lists else []
    if any(other != ids for other in lists):
        raise OwnlmError(
            "trainable_token_indices names other tokens for the head than for the embedding; merge it first"
        )
    if not isinstance(ids, list) or not all(type(id) is int and id >= 0 for id in ids) or len({*ids}) != len(ids):
        raise DamagedError(f"trainable_token_indices is {shown(given)}, which is no list of tokens' ids")
    if len(ids) > _MOST_TOKENS:
        raise OwnlmError(f"trainable_token_indices names {len(ids):,} tokens, at most {_MOST_TOKENS:,} are computed")
    return ids


def table_names(model_type: str) -> tuple[str, str]:
    """What the embedding and the head are called: the one as in the family's files, the other everywhere alike, for
    PEFT goes by transformers' modules.
    """
    name = "model.embed_tokens.weight"
    (embedding,) = family_of({"model_type": model_type}).TENSORS.layout({name: (1, 1)}, 1)
    return embedding.removesuffix(".weight"), "lm_head"


def read_weights(
    path: Path, config: LoraConfig, ids: Sequence[int], decoder: Decoder
) -> tuple[list[LoraPair], TokenRows | None]:
    tensors = open_tensors(path)
    rows = None
    pairs: list[LoraPair] = []
    names: set[str] = set()
    for module, stored in matrices(decoder).items():
        out, width = sizes(stored)
        shapes: dict[str, tuple[int, ...]] = {
            "lora_A.weight": (config.rank, width),
            "lora_B.weight": (out, config.rank),
        }
        if config.dora:
            shapes["lora_magnitude_vector"] = (out,)
        keys = {f"{_PREFIX}{module}.{name}": shape for name, shape in shapes.items()}
        if tensors.keys().isdisjoint(keys):
            continue
        pairs.append(LoraPair(stored, *(_read(tensors, key, shape) for key, shape in keys.items())))
        names |= keys.keys()
    if ids:
        if max(ids) >= decoder.config.vocab_size:
            raise OwnlmError(
                f"it holds a row for token {max(ids)}, and the model has {decoder.config.vocab_size} tokens; open the "
                "adapter's own folder as the model, with its tokenizer inside"
            )
        embedding, head = (f"{_PREFIX}{name}{_TOKENS}" for name in table_names(decoder.config.model_type))
        shape = (len(ids), decoder.config.hidden_size)
        rows = TokenRows(
            ids, _read(tensors, embedding, shape), _read(tensors, head, shape) if head in tensors else None
        )
        names |= {embedding, head}
    if unused := sorted(tensors.keys() - names):
        raise OwnlmError(f"{unused[0]} is for nothing that an adapter may change in this model; is it another's?")
    if not pairs:
        raise DamagedError("it holds no matrices; restore the adapter's files")
    return pairs, rows


def _read(tensors: Mapping[str, StoredTensor], key: str, shape: Sequence[int]) -> Tensor:
    if key not in tensors:
        raise DamagedError(f"{key} is missing; restore the adapter's files")
    if tensors[key].shape != shape:
        raise DamagedError(f"{key} has shape {list(tensors[key].shape)}, and this model needs {list(shape)}")
    found = tensors[key].read().float()
    if not bool(found.isfinite().all()):
        raise DamagedError(f"{key} holds numbers that are not finite; restore the adapter's files")
    return found
