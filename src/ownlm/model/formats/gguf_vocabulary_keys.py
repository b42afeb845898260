"""A tokenizer's keys, made to fit the model that they go with.

In:  config.json's fields and the keys `tokenizer.*`. Out: the keys to write. llama.cpp takes the number of tokens for
the embedding's rows, so there must be one for each; whoever makes the keys fills up what is shorter.
"""

from collections.abc import Mapping
from typing import Any

from ownlm.errors import OwnlmError

_TOKENS = "tokenizer.ggml.tokens"
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
    rows = fields["vocab_size"]
    if _TOKENS in keys and len(keys[_TOKENS]) != rows:
        raise OwnlmError(
            f"the tokenizer has {len(keys[_TOKENS])} tokens and the model {rows} rows for them; pair them anew"
        )
    return keys
