"""Which tokens of a GGUF's vocabulary are special, and which end an answer.

In:  the metadata, the tokens and their types.
Out: SpecialTokens.

The ids that a file names are believed; where files are silent, llama.cpp goes by the tokens' texts, and so do we.
Source: llama.cpp's src/llama-vocab.cpp.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = range(1, 5)

# Each of these ends an answer wherever it is found.
END_NAMES = frozenset(
    {
        *("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>"),
        *("<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>"),
        *("<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>", "<｜end▁of▁sentence｜>", "[e~["),
    }
)
# Of a file's borders in code models: who writes on past them writes another file.
FILE_NAMES = (
    ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    ("<|file_sep|>",),
)
_FILE_KEYS = ("fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id")
# gpt-oss's channels are text to be seen.
_SHOWN = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")


@dataclass(frozen=True, kw_only=True)
class SpecialTokens:
    """Ids. `control` no text becomes; `user_defined` are found in a text before anything else."""

    bos: int | None
    eos: int | None
    unknown: int | None
    padding: int | None
    ends: tuple[int, ...]
    control: frozenset[int]
    user_defined: frozenset[int]


def special_tokens(
    metadata: Mapping[str, Any], tokens: Sequence[str], types: Sequence[int], *, is_spm: bool
) -> SpecialTokens:
    def named(key: str, default: int | None = None) -> int | None:
        id = metadata.get(f"tokenizer.ggml.{key}", default)
        return int(id) if id is not None and 0 <= int(id) < len(tokens) else None

    # SentencePiece's own numbers, for files that leave them out.
    bos = named("bos_token_id", 1 if is_spm else None)
    eos = named("eos_token_id", 2 if is_spm else None)
    unknown = named("unknown_token_id", 0 if is_spm else None)
    id_of = {token: id for id, token in enumerate(tokens)}
    by_name = {id_of[name] for name in END_NAMES if name in id_of}
    # Many vocabularies hold HTML's </s> as a piece of text; llama.cpp takes that for an end too, we do not.
    by_name -= {id for id in by_name if tokens[id] == "</s>" and types[id] != _CONTROL and id != eos}
    for key, names in zip(_FILE_KEYS, FILE_NAMES, strict=True):
        found = named(key, next((id_of[name] for name in names if name in id_of), None))
        by_name |= {found} if found is not None else set()

    control = {id for id, type in enumerate(types) if type in (_CONTROL, _UNKNOWN)} | by_name
    control |= {id for id in (bos, eos) if id is not None}
    user_defined = {id for id, type in enumerate(types) if type == _USER_DEFINED}
    ends = [id for id in (eos, named("eot_token_id"), named("eom_token_id")) if id is not None]
    ends += sorted(by_name)

    end_names = {tokens[id] for id in ends}
    if {"<|return|>", "<|call|>", "<|end|>"} <= end_names or {"<|calls|>", "<|flush|>", "<|end|>"} <= end_names:
        # There <|end|> closes one of several messages of an answer.
        _make_ordinary(id_of["<|end|>"], ends, control, user_defined)
    for name in _SHOWN:
        if name in id_of:
            _make_ordinary(id_of[name], ends, control, user_defined)
    return SpecialTokens(
        bos=bos,
        eos=eos,
        unknown=unknown,
        padding=named("padding_token_id"),
        ends=tuple(dict.fromkeys(ends)),
        control=frozenset(control),
        user_defined=frozenset(user_defined - control),
    )


def _make_ordinary(id: int, ends: list[int], control: set[int], user_defined: set[int]) -> None:
    """Found in a text, but neither special nor an end."""
    while id in ends:
        ends.remove(id)
    control.discard(id)
    user_defined.add(id)
