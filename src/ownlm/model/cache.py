"""What a decoder asks of a cache: keys and values of tokens already read, so that each new token costs one step.

The decoder hands over what it computed for the new tokens of a layer and gets back what attention made of them and
of all that was read before. How the past is kept is the cache's affair: engine/paged_cache.py has it in blocks.
"""

from typing import Protocol

from torch import Tensor


class AttentionCache(Protocol):
    """Tokens come as one flat row, whichever texts they are of: the cache knows, and keeps texts apart."""

    def attend(
        self,
        layer: int,
        q_HND: Tensor,
        k_NKD: Tensor,
        v_NKD: Tensor,
        *,
        window: int | None,
        scale: float,
        cap: float | None,
    ) -> Tensor:
        """Store keys and values of `layer`; returns the mixed values [H, N, D] of every token.

        `window`: how many tokens, itself among them, a token sees; None: all before it. `cap`: as capped_attention's.
        """
        ...
