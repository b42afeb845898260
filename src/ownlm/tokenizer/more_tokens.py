"""A tokenizer with more special tokens: they get the ids after all others, and no other id changes.

In:  a tokenizer of any kind, and the new tokens' names. Out: the tokenizer that knows them.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.tokenizer.pipelines import FLAGS
from ownlm.tokenizer.tokenizer import Tokenizer


def with_tokens(tokenizer: Tokenizer, tokens: Sequence[str]) -> Tokenizer:
    for place, token in enumerate(tokens):
        if not token.strip():
            raise OwnlmError(f"the new token {token!r} is empty; give it a name such as <|note|>")
        if token in tokens[:place] or tokenizer.whole.token_to_id(token) is not None:
            raise OwnlmError(f"{token!r} is a token already; leave it out of the new ones")
    first = tokenizer.vocab_size
    flags = {**dict.fromkeys(FLAGS, False), "special": True}
    new: list[dict[str, Any]] = [{"id": first + n, "content": token, **flags} for n, token in enumerate(tokens)]
    if tokenizer.own:
        description = json.loads(tokenizer.to_json())
        description["added_tokens"] += new
        return Tokenizer(json.dumps(description, ensure_ascii=False), tokenizer.settings)
    grown = Tokenizer(tokenizer.to_json(), replace(tokenizer.settings, added=[*tokenizer.settings.added, *new]))
    if any(grown.special.get(token["content"]) != token["id"] for token in new):
        raise OwnlmError("this tokenizer's ids have gaps, so new tokens would take others' rows; add none")
    return grown
