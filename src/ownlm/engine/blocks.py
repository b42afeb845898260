"""Which block of the cache holds what: numbers only, no tensors.

Every running text has a list of blocks, each with room for BLOCK tokens. A full block is published under a hash of
all the tokens up to its end, so that another text with the same beginning shares it instead of computing it:

    text A   [ The cat sat on ][ the mat and sle ][ pt . . ]        blocks 0 1 2
    text B   [ The cat sat on ][ the mat and sle ][ ept. ]          blocks 0 1 3

A block that nobody holds keeps its content until it is needed; the one unused for longest goes first.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence

BLOCK = 16


def chain_hash(before: bytes, tokens: Sequence[int]) -> bytes:
    """The hash of a block with these tokens, behind a text with the hash `before`.

    SHA-256, for a short hash can be made to collide, and would then give one user another's text.
    """
    return hashlib.sha256(before + array("q", tokens).tobytes()).digest()


class Blocks:
    """`count` blocks, each free or held by one or more texts."""

    def __init__(self, count: int) -> None:
        self.count = count
        # The order is that of reuse: the first was let go the longest ago.
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(count))
        self._holders = [0] * count
        self._hash_of: list[bytes | None] = [None] * count
        self._by_hash: dict[bytes, int] = {}

    @property
    def free(self) -> int:
        return len(self._free)

    def take(self, after: int | None = None) -> int | None:
        """A block to write into, or None when all are held.

        The block behind `after` is taken when nothing is kept in it: attention reads neighbours without copying.
        """
        if not self._free:
            return None
        block = next(iter(self._free))
        if after is not None and after + 1 in self._free and self._hash_of[after + 1] is None:
            block = after + 1
        del self._free[block]
        self._forget(block)
        self._holders[block] = 1
        return block

    def find(self, hash: bytes) -> int | None:
        """The block that holds such a beginning, without taking hold of it."""
        return self._by_hash.get(hash)

    def share(self, block: int) -> None:
        """One more text holds the block."""
        self._free.pop(block, None)
        self._holders[block] += 1

    def is_free(self, block: int) -> bool:
        return block in self._free

    def publish(self, block: int, hash: bytes) -> None:
        """Others may share what the block holds; where another block holds the same already, that one is shared."""
        assert self._holders[block] and self._hash_of[block] is None
        if hash not in self._by_hash:
            self._by_hash[hash], self._hash_of[block] = block, hash

    def release(self, blocks: Sequence[int]) -> None:
        """A text lets go of its blocks. Its end is reused before its beginning, which others are likelier to share."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            assert self._holders[block] >= 0
            if not self._holders[block]:
                self._free[block] = None
                if self._hash_of[block] is None:
                    self._free.move_to_end(block, last=False)

    def forget(self, blocks: Iterable[int]) -> None:
        """Keep nothing in those of the blocks that nobody holds."""
        for block in filter(self.is_free, blocks):
            self._forget(block)
            self._free.move_to_end(block, last=False)

    def _forget(self, block: int) -> None:
        hash = self._hash_of[block]
        if hash is not None:
            del self._by_hash[hash]
            self._hash_of[block] = None
