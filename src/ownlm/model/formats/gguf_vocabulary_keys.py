"""A tokenizer's keys, made to fit the model that they go with.

In:  config.json's fields and the keys `tokenizer.*`. Out: the keys to write. llama.cpp takes the number of tokens for
the embedding's rows, so a vocabulary that is shorter, for its rows are padded, is filled up with tokens that no text
can give.
"""

from collections.abc import Mapping
from typing import Any

from ownlm.errors import OwnlmError

_TOKENS, _TYPES, _SCORES = ("tokenizer.ggml." + name for name in ("tokens", "token_type", "scores"))
_NORMAL, _UNUSED = 1, 5
_SPECIAL = {"bos_token_id": "bos", "eos_token_id": "eos", "pad_token_id": "padding"}


def vocabulary_keys(fields: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """Without a tokenizer: a file that says that it has none. Special ids that it leaves out are the model's."""
    strange = [key for key in tokenizer if not key.startswith("tokenizer.")]
    if strange:
        raise OwnlmError(f"a tokenizer's keys begin with 'tokenizer.', and {strange[0]!r} does not")
    keys: dict[str, Any] = dict(tokenizer) if tokenizer else {"tokenizer.ggml.model": "none"}
    for field, name in _SPECIAL.items():
        value = fields.get(field)
        # Of several that end an answer a file names one.
        first = value[0] if isinstance(value, list) and value else value
        if type(first) is int and first >= 0:
            keys.setdefault(f"tokenizer.ggml.{name}_token_id", first)
    if _TOKENS in keys:
        _fill_up(keys, fields["vocab_size"])
    return keys


def _fill_up(keys: dict[str, Any], rows: int) -> None:
    tokens = list(keys[_TOKENS])
    missing = rows - len(tokens)
    if missing < 0:
        raise OwnlmError(f"the tokenizer has {len(tokens)} tokens and the model {rows} rows for them; pair them anew")
    if missing == 0:
        return
    types = list(keys.get(_TYPES, [_NORMAL] * len(tokens)))
    keys[_TOKENS] = [*tokens, *(f"[PAD{number}]" for number in range(len(tokens), rows))]
    keys[_TYPES] = [*types, *[_UNUSED] * missing]
    if _SCORES in keys:
        keys[_SCORES] = [*keys[_SCORES], *[-1000.0] * missing]
