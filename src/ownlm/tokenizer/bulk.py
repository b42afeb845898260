"""Encode many texts fast, to the very ids that `tokenizers` gives.

In:  texts, and the vocabulary of one kind of tokenizer.
Out: one array of ids a text, uint16 where they fit.

    bpe         tiktoken, several times as fast with the same merges; checked on a sample when it is set up
    word        `tokenizers` itself, a batch at a time; so other models' tokenizers too
    character   one table look-up for all characters of a text
"""

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tiktoken
from numpy.typing import NDArray
from tokenizers import Tokenizer as Pipeline

from ownlm.tokenizer.pipelines import Pipelines
from ownlm.tokenizer.reference import PATTERN

Ids = NDArray[np.unsignedinteger]
EncodeAll = Callable[[Sequence[str]], list[Ids]]

# The same pieces, 1.4 times as fast here: all that needs no look-ahead stands in one group, which tiktoken's engine
# then runs as one automaton; and space that fails the look-ahead is a single character, so `\s` is enough.
_LOOK_AHEAD = r"|\s+(?!\S)|\s+"
_FAST_PATTERN = rf"(?:{PATTERN.removesuffix(_LOOK_AHEAD)})|\s+(?!\S)|\s"

# tiktoken's regular expressions give up on runs of a million spaces; `tokenizers` does not.
_LONG_TEXT = 100_000
_LONG_SPACE = re.compile(rf"\s{{{_LONG_TEXT}}}")

_BATCH_CHARACTERS = 1_000_000

_SAMPLE = (
    "It's 1234.5% of what THEY'LL say… naïve, Ünïcödé, 中文字, עברית, हिन्दी, 👩‍👩‍👧!\r\n\r\n"
    "\tdef f(x):\n    return x**2  \n   \u00a0\u2028\u3000 x\n \n\n<|im_end|> ſ'ſ e\u0301 ½ Ⅷ ___ //// \x00\x1f\x85 x  "
)


def pair_encoder(pipeline: Pipeline, tokens: Sequence[bytes], special: dict[str, int]) -> EncodeAll:
    """Encode by tiktoken; `tokens` are the ordinary ones in the order in which they were learned."""
    encoding = tiktoken.Encoding(
        "ownlm",
        pat_str=_FAST_PATTERN,
        mergeable_ranks={token: rank for rank, token in enumerate(tokens)},
        special_tokens=special,
    )
    dtype = smallest_dtype(len(tokens) + len(special))

    def encode(text: str) -> Ids:
        if len(text) >= _LONG_TEXT and _LONG_SPACE.search(text):
            return np.array(pipeline.encode(text, add_special_tokens=False).ids, dtype=dtype)
        return encoding.encode_to_numpy(text, allowed_special=set(), disallowed_special=()).astype(dtype)

    if encode(_SAMPLE).tolist() != pipeline.encode(_SAMPLE, add_special_tokens=False).ids:
        return batch_encoder(pipeline, dtype)  # another version of a library splits otherwise: be slow and right

    def encode_all(texts: Sequence[str]) -> list[Ids]:
        if len(texts) < 2:
            return [encode(text) for text in texts]
        with ThreadPoolExecutor(min(_cores(), len(texts))) as pool:
            return list(pool.map(encode, texts))

    return encode_all


def batch_encoder(pipeline: Pipeline, dtype: type[np.unsignedinteger]) -> EncodeAll:
    """Encode by `tokenizers`, a megabyte at a time: what it returns takes far more room than the ids."""

    def encode_all(texts: Sequence[str]) -> list[Ids]:
        arrays: list[Ids] = []
        batch: list[str] = []
        waiting = 0
        for number, text in enumerate(texts, start=1):
            batch.append(text)
            waiting += len(text)
            if waiting >= _BATCH_CHARACTERS or number == len(texts):
                encodings = pipeline.encode_batch_fast(batch, add_special_tokens=False)
                arrays += [np.array(encoding.ids, dtype=dtype) for encoding in encodings]
                batch, waiting = [], 0
        return arrays

    return encode_all


def guarded_encoder(pipelines: Pipelines, dtype: type[np.unsignedinteger], vocab_size: int) -> EncodeAll:
    """Encode by `tokenizers`, and anew what came out with a special token in it."""
    encode_plainly = batch_encoder(pipelines.plain, dtype)
    is_guarded = np.array(pipelines.is_guarded(vocab_size))

    def encode_all(texts: Sequence[str]) -> list[Ids]:
        arrays = encode_plainly(texts)
        for place, ids in enumerate(arrays):
            if is_guarded[ids].any():
                arrays[place] = np.array(pipelines.encode_strictly(texts[place]), dtype=dtype)
        return arrays

    return encode_all


def character_encoder(tokens: Sequence[bytes], dtype: type[np.unsignedinteger]) -> EncodeAll:
    """Encode by a table from code point to id; the first 256 ids are the byte values."""
    id_of = np.full(0x110000, -1, dtype=np.int32)
    id_of[:0x80] = np.arange(0x80)
    for id, token in enumerate(tokens[256:], start=256):
        id_of[ord(token.decode())] = id

    def encode(text: str) -> Ids:
        code_points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
        ids = id_of[code_points]
        unseen = ids < 0
        if unseen.any():
            spelled = code_points[unseen].tobytes().decode("utf-32-le").encode()
            utf8_bytes = 1 + (code_points >= 0x80) + (code_points >= 0x800) + (code_points >= 0x10000)
            length = np.where(unseen, utf8_bytes, 1)
            ids = np.repeat(ids, length)
            ids[np.repeat(unseen, length)] = np.frombuffer(spelled, dtype=np.uint8)
        narrow: Ids = ids.astype(dtype)
        return narrow

    return lambda texts: [encode(text) for text in texts]


def smallest_dtype(vocab_size: int) -> type[np.unsignedinteger]:
    return np.uint16 if vocab_size < 65536 else np.uint32


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
