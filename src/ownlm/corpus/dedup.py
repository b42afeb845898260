"""Duplicates: a text that stands twice is learned twice, and one on both sides of the split is no test.

In:  documents, those to keep rather than others first (validation before training).
Out: the documents without exact and near duplicates of earlier ones, and how many went for which reason.

Near-duplicates are found by MinHash over five-word shingles (Broder, 1997), by `rensa`.
"""

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import rensa

from ownlm.corpus.document import Document

# Bytes from 128 on are the letters of other scripts, near enough.
_WORD = re.compile(rb"[\w\x80-\xff]+")
_SHINGLE_WORDS = 5
_ODD = np.uint64(0x9E3779B97F4A7C15)
_PERMUTATIONS = 128
# 32 bands of 4: two documents of similarity 0.7 meet in some band with probability 0.9998, at 0.5 with 0.87;
# every pair that meets is then judged by all 128 values.
_BANDS = 32
_ROWS = _PERMUTATIONS // _BANDS

# Texts that meet more than so many others in their bands are of one large family, and find it among these.
_MOST_CANDIDATES = 1_000

Digest = npt.NDArray[np.uint32]


def text_fingerprint(text: str) -> bytes:
    """Equal for texts that differ in white space and letter case only."""
    return hashlib.sha256(" ".join(text.lower().split()).encode(errors="replace")).digest()


def drop_duplicates(documents: Sequence[Document], *, threshold: float, dropped: Counter[str]) -> list[Document]:
    """The first of every group of duplicates, in the order given."""
    distinct = list(_without_exact(documents, dropped))
    near = _near_duplicates([document.text for document in distinct], threshold)
    dropped["near-duplicates"] += len(near)
    return [document for place, document in enumerate(distinct) if place not in near]


def _without_exact(documents: Sequence[Document], dropped: Counter[str]) -> Iterable[Document]:
    seen: set[bytes] = set()
    for document in documents:
        fingerprint = text_fingerprint(document.text)
        if fingerprint in seen:
            dropped["exact duplicates"] += 1
            continue
        seen.add(fingerprint)
        yield document


def _near_duplicates(texts: Sequence[str], threshold: float) -> set[int]:
    """Places of texts that are similar to an earlier one that stays."""
    digests = _digests(texts)
    gone: set[int] = set()
    buckets: list[dict[bytes, list[int]]] = [{} for _ in range(_BANDS)]
    for place, digest in digests.items():
        keys = [digest[band * _ROWS : (band + 1) * _ROWS].tobytes() for band in range(_BANDS)]
        earlier = {other for bucket, key in zip(buckets, keys, strict=True) for other in bucket.get(key, ())}
        if any(np.mean(digest == digests[other]) >= threshold for other in earlier):
            gone.add(place)
            continue
        for bucket, key in zip(buckets, keys, strict=True):
            bucket.setdefault(key, []).append(place)
    return gone


def near_pairs(texts: Sequence[str], threshold: float) -> Iterator[tuple[int, int]]:
    """Places of texts that are similar, the earlier one first: enough pairs to join all that are alike."""
    digests = _digests(texts)
    places = list(digests)
    table = np.array(list(digests.values()), dtype=np.uint32).reshape(len(places), _PERMUTATIONS)
    buckets: list[dict[bytes, list[int]]] = [{} for _ in range(_BANDS)]
    for row, digest in enumerate(table):
        keys = [digest[band * _ROWS : (band + 1) * _ROWS].tobytes() for band in range(_BANDS)]
        met = sorted({other for bucket, key in zip(buckets, keys, strict=True) for other in bucket.get(key, ())})
        met = met[:_MOST_CANDIDATES]
        alike = np.mean(table[met] == digest, axis=1) >= threshold if met else ()
        yield from ((places[other], places[row]) for other, same in zip(met, alike, strict=True) if same)
        for bucket, key in zip(buckets, keys, strict=True):
            bucket.setdefault(key, []).append(row)


def _digests(texts: Sequence[str]) -> dict[int, Digest]:
    """128 minimal hashes of each text that has at least as many words as a shingle."""
    hashes = {place: shingles for place, text in enumerate(texts) if len(shingles := _shingles(text))}
    if not hashes:
        return {}
    ends = np.cumsum([0, *map(len, hashes.values())], dtype=np.uint64)
    flat = np.concatenate(list(hashes.values()))
    rows = rensa.RMinHash.digest_matrix_from_flat_token_hashes(flat, ends, _PERMUTATIONS, 1).to_rows()
    return {place: np.asarray(row, dtype=np.uint32) for place, row in zip(hashes, rows, strict=True)}


def _shingles(text: str) -> npt.NDArray[np.uint64]:
    """A number for every run of five words: their checksums, one polynomial in an odd number, modulo 2**64."""
    words = np.array(
        [zlib.crc32(word) for word in _WORD.findall(text.lower().encode(errors="replace"))], dtype=np.uint64
    )
    count = len(words) - _SHINGLE_WORDS + 1
    total = np.zeros(max(count, 0), dtype=np.uint64)
    for place in range(_SHINGLE_WORDS):
        total = total * _ODD + words[place : place + len(total)]
    return total
