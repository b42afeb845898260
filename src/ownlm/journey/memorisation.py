"""Does it repeat, or does it write? Beginnings of texts that it read and that it never read, continued greedily.

In:  the base model and the tokens it was trained on. Out: rows of prompt, what it wrote, what the text says,
     and the share of characters that are equal. A model that learned a text by heart is far better on what it read.
"""

from itertools import islice
from pathlib import Path
from typing import Any

from ownlm.corpus.shards import TokenSet
from ownlm.opened import Model

ROWS = 3
PROMPT_TOKENS, CONTINUED_TOKENS = 32, 32


def continued_text(model: Model, tokens: Path) -> list[dict[str, Any]]:
    """ROWS documents of each split; documents too short to cut are passed over."""
    token_set = TokenSet.open(tokens)
    held_out = next(name for name in token_set.splits if name.startswith("validation"))
    rows: list[dict[str, Any]] = []
    for split, name in (("train", "train"), ("validation", held_out)):
        documents = token_set.documents(name)
        long_enough = (
            ids for ids in map(documents.document, range(len(documents))) if len(ids) > PROMPT_TOKENS + CONTINUED_TOKENS
        )
        rows += [{"split": split, **_row(model, ids.tolist())} for ids in islice(long_enough, ROWS)]
    return rows


def _row(model: Model, ids: list[int]) -> dict[str, Any]:
    prompt, truth = ids[:PROMPT_TOKENS], ids[PROMPT_TOKENS : PROMPT_TOKENS + CONTINUED_TOKENS]
    written = model.complete([prompt], temperature=0, max_tokens=CONTINUED_TOKENS)[0].text
    text = model.tokenizer.decode(truth)
    equal = sum(ours == theirs for ours, theirs in zip(written, text, strict=False))
    return {
        "prompt": model.tokenizer.decode(prompt),
        "written": written,
        "text": text,
        "equal_share": round(equal / max(1, len(text)), 3),
    }
