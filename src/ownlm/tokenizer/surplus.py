"""A tokenizer with more ids than its model has rows: cut to those that the model knows.

In:  a tokenizer, and the rows of the model's embedding. Out: the tokenizer without the added tokens beyond them.

Gemma 3's text models come with the token that stands for an image in those which also see: no row, so no text may give
it. What spells it is plain text then, in chat templates too. A row that an ordinary token lacks is a mix-up of files.
"""

import json
from dataclasses import replace
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.tokenizer.tokenizer import Tokenizer


def cut_to_rows(tokenizer: Tokenizer, rows: int) -> Tokenizer:
    if tokenizer.vocab_size <= rows:
        return tokenizer
    refusal = OwnlmError(
        f"the model has rows for {rows:,} tokens, its tokenizer {tokenizer.vocab_size:,}; "
        "copy the tokenizer that belongs to it"
    )
    if tokenizer.own:
        raise refusal
    description = json.loads(tokenizer.to_json())
    added = {token["content"]: token["id"] for token in description["added_tokens"]}
    surplus = {name for name, id in added.items() if id >= rows}
    model: dict[str, Any] = description["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {name: id for name, id in model["vocab"].items() if name not in surplus}
        most = max(model["vocab"].values(), default=-1)
    else:
        model["vocab"] = [piece for piece in model["vocab"] if piece[0] not in surplus]
        most = len(model["vocab"]) - 1
    if most >= rows:
        raise refusal
    description["added_tokens"] = [token for token in description["added_tokens"] if token["content"] not in surplus]
    names = {role: name for role, name in tokenizer.settings.names.items() if name not in surplus}
    try:
        return Tokenizer(json.dumps(description), replace(tokenizer.settings, names=names, added=()))
    except ValueError:  # what is left needs what was cut off
        raise refusal from None
