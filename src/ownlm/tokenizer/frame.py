"""What a model wants around a text, or around two that it reads together: [CLS] text [SEP] text [SEP].

In:  a tokenizer whose tokenizer.json says it (its post-processor), and ids of texts.
Out: the ids with their frame, and which of the two texts each is counted to (BERT's token types).

The frame is found once, by a look at how the pipeline puts it; a text's own ids come from Tokenizer.encode, by which
no text can write "[SEP]".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ownlm.errors import DamagedError
from ownlm.tokenizer.tokenizer import Tokenizer

# (id, type) of each token.
_Part = list[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Framed:
    ids: list[int]
    types: list[int]


@dataclass(frozen=True, kw_only=True)
class _Template:
    """The tokens before, between and after texts, and the type of each text's own."""

    around: list[_Part]
    types: list[int]

    def fill(self, texts: Sequence[Sequence[int]]) -> Framed:
        tokens = list(self.around[0])
        for text, type, after in zip(texts, self.types, self.around[1:], strict=True):
            tokens += [*((id, type) for id in text), *after]
        return Framed(ids=[id for id, _ in tokens], types=[type for _, type in tokens])


class Frame:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._one, self._two = _template(tokenizer, "a"), _template(tokenizer, "a", "b")

    def size(self, *, pair: bool = False) -> int:
        """How many tokens it adds."""
        return sum(map(len, (self._two if pair else self._one).around))

    def around(self, first: Sequence[int], second: Sequence[int] | None = None) -> Framed:
        return self._one.fill([first]) if second is None else self._two.fill([first, second])


def _template(tokenizer: Tokenizer, *texts: str) -> _Template:
    seen = tokenizer.whole.encode(texts[0], texts[1] if len(texts) > 1 else None)
    around: list[_Part] = [[]]
    types: list[int] = []
    for id, type, text in zip(seen.ids, seen.type_ids, seen.sequence_ids, strict=True):
        if text is None:
            around[-1].append((id, type))
        elif text == len(types):
            types.append(type)
            around.append([])
    if len(types) != len(texts):
        raise DamagedError("its tokenizer.json cannot read the letters a and b; copy the tokenizer anew")
    return _Template(around=around, types=types)
