"""Byte pair encoding in plain Python, to be read; the fast tokenizer is tested against it.

In:  text.
Out: merges (train), token ids (encode), text again (decode).

    "low lower"  --split-->  "low", " lower"            pieces: a merge never crosses their borders
                 --bytes-->  l o w | ␣ l o w e r        256 tokens that can spell anything
                 --merge-->  low | ␣ low er             again and again the most frequent pair becomes one token

Training repeats one step: count every pair of neighbours, join the most frequent one everywhere. Among equals the
pair with the smallest ids wins, the left id first; `tokenizers` breaks ties so too, and gives the same ids.
Encoding replays the merges in the order in which they were learned.

Source: Sennrich et al. (arXiv:1508.07909); on bytes as in GPT-2 (Radford et al., 2019).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import regex  # type: ignore[import-untyped]

# Qwen2's expression. In order: an English contraction; a word with the one character before it; a single digit;
# punctuation with its line ends; line ends with the space before them; space, less the one that the next word takes.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_characters() -> list[str]:
    """A visible character for each of the 256 bytes: tokenizer.json spells tokens in these, not in raw bytes."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(spare)) for byte in range(256)]


def byte_order() -> list[int]:
    """The bytes in the order of their first 256 ids: that of their visible characters."""
    characters = byte_characters()
    return sorted(range(256), key=lambda byte: characters[byte])


def split(text: str) -> list[str]:
    """The pieces of a text, in order; joined they give the text back."""
    pieces: list[str] = regex.findall(PATTERN, text)
    return pieces


class ReferenceBPE:
    """A byte-level BPE of ordinary tokens: `tokens[id]` is the token's bytes, `merges[pair]` the id it becomes."""

    def __init__(self) -> None:
        self.tokens: list[bytes] = [bytes([byte]) for byte in byte_order()]
        self.merges: dict[tuple[int, int], int] = {}
        self._byte_ids = {token[0]: id for id, token in enumerate(self.tokens)}

    def train(self, texts: Iterable[str], vocab_size: int, min_frequency: int = 2) -> None:
        """Learn merges until there are `vocab_size` tokens or no pair occurs `min_frequency` times."""
        count_of_piece = Counter(piece for text in texts for piece in split(text))
        words = [self._spell(piece) for piece in count_of_piece]
        counts = list(count_of_piece.values())

        pair_counts: Counter[tuple[int, int]] = Counter()
        words_with: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
        for index, word in enumerate(words):
            for pair in pairwise(word):
                pair_counts[pair] += counts[index]
                words_with[pair].add(index)

        while len(self.tokens) < vocab_size and pair_counts:
            best = min(pair_counts, key=lambda pair: (-pair_counts[pair], pair))
            if pair_counts[best] < min_frequency:
                break
            self.merges[best] = len(self.tokens)
            self.tokens.append(self.tokens[best[0]] + self.tokens[best[1]])
            for index in words_with.pop(best):
                for pair in pairwise(words[index]):
                    pair_counts[pair] -= counts[index]
                words[index] = _join(words[index], best, self.merges[best])
                for pair in pairwise(words[index]):
                    pair_counts[pair] += counts[index]
                    words_with[pair].add(index)
            del pair_counts[best]

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in split(text):
            word = self._spell(piece)
            while len(word) > 1:
                # The merge learned first goes first: its id is the smallest.
                pair = min(pairwise(word), key=lambda pair: self.merges.get(pair, len(self.tokens)))
                if pair not in self.merges:
                    break
                word = _join(word, pair, self.merges[pair])
            ids += word
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join(self.tokens[id] for id in ids).decode("utf-8", "replace")

    def _spell(self, piece: str) -> list[int]:
        return [self._byte_ids[byte] for byte in piece.encode()]


def _join(word: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    """The word with each occurrence of the pair, from left to right, as one token."""
    joined: list[int] = []
    position = 0
    while position < len(word):
        if (word[position], *word[position + 1 : position + 2]) == pair:
            joined.append(new_id)
            position += 2
        else:
            joined.append(word[position])
            position += 1
    return joined
