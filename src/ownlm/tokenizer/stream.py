"""Text from tokens as they come, never half a character.

In:  token ids, one at a time.
Out: the text that is certain by then; the pieces joined equal decoding all ids at once.

A token of a byte-level vocabulary may end in the middle of a character: "é" is two bytes, and an emoji four. Such
bytes wait for the rest. Bytes that nothing can complete become U+FFFD, as in Python's `decode("utf-8", "replace")`.

A SentencePiece tokenizer puts a space before a text when it encodes it, and drops it again where a text begins.
"""

import codecs
from collections.abc import Callable

from ownlm.tokenizer.token_bytes import Dropped


class StreamDecoder:
    """Push ids, show what comes back, and finish to get what was still waiting."""

    def __init__(self, token_bytes: Callable[[int], bytes], dropped: Dropped = "none") -> None:
        self._token_bytes = token_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._dropped = self._still_dropped = dropped

    def push(self, token_id: int) -> str:
        """The text that this token completes; "" while a character is only half there."""
        return self._utf8.decode(self._at_start(self._token_bytes(token_id)))

    def finish(self) -> str:
        """What the half character left behind, if any, as U+FFFD; the decoder can then be used anew."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        self._still_dropped = self._dropped
        return rest

    def _at_start(self, spelled: bytes) -> bytes:
        """The bytes of a token, without the space that encoding put before the text's first one."""
        if self._still_dropped == "none" or not spelled:
            return spelled
        dropped, self._still_dropped = self._still_dropped, "none"
        return spelled.lstrip(b" ") if dropped == "all" else spelled.removeprefix(b" ")
