"""Keys and values of the tokens already read, so that each new token costs one step.

    cache index   0 1 2 3 4 5 6
    row 0         . . a b c d e     `.` padding on the left: rows of a batch end together
    row 1         f g h i j k l

`padding_B` says how many indices of a row are padding; a token's position is its index less that.
"""

import torch
from torch import Tensor

from ownlm.model.config import DecoderConfig
from ownlm.model.mask import within


class KeyValueCache:
    """Room for `capacity` tokens of `batch` sequences, in every layer."""

    def __init__(
        self,
        config: DecoderConfig,
        *,
        batch: int,
        capacity: int,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        padding_B: Tensor | None = None,
    ) -> None:
        shape = (config.num_hidden_layers, batch, config.num_key_value_heads, capacity, config.head_dim)
        self.keys_LBKSD = torch.zeros(shape, device=device, dtype=dtype)
        self.values_LBKSD = torch.zeros(shape, device=device, dtype=dtype)
        self.padding_B = torch.zeros(batch, dtype=torch.long, device=device) if padding_B is None else padding_B
        self.length = 0

    @property
    def capacity(self) -> int:
        return self.keys_LBKSD.shape[3]

    def positions(self, count: int) -> Tensor:
        """Positions [B, count] of the next `count` tokens; padding gets 0, and no query reads it."""
        index = torch.arange(self.length, self.length + count, device=self.padding_B.device)
        return (index - self.padding_B.unsqueeze(1)).clamp(min=0)

    def mask(self, count: int, window: int | None = None) -> Tensor:
        """May query t see key s? [B, 1, count, length + count]: the past (its last `window` keys), and no padding."""
        device = self.padding_B.device
        query = torch.arange(self.length, self.length + count, device=device)
        key = torch.arange(self.length + count, device=device)
        causal_TS = within(key <= query.unsqueeze(1), window)
        real_BxS = (key >= self.padding_B.unsqueeze(1)).unsqueeze(1)
        # A padding query would see nothing, and softmax over nothing is NaN: let it see itself.
        itself_TS = key == query.unsqueeze(1)
        return ((causal_TS & real_BxS) | itself_TS).unsqueeze(1)

    def extend(self, layer: int, keys_BKTD: Tensor, values_BKTD: Tensor) -> tuple[Tensor, Tensor]:
        """Store what `layer` computed for the next tokens; returns all keys and values so far."""
        end = self.length + keys_BKTD.shape[2]
        self.keys_LBKSD[layer, :, :, self.length : end] = keys_BKTD
        self.values_LBKSD[layer, :, :, self.length : end] = values_BKTD
        return self.keys_LBKSD[layer, :, :, :end], self.values_LBKSD[layer, :, :, :end]

    def advance(self, count: int) -> None:
        """Called once a forward pass, after the last layer."""
        self.length += count

    def keep_rows(self, rows: Tensor) -> None:
        """Go on with these rows of the batch alone: the others have ended."""
        self.keys_LBKSD = self.keys_LBKSD[:, rows]
        self.values_LBKSD = self.values_LBKSD[:, rows]
        self.padding_B = self.padding_B[rows]

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens: the prompt was edited behind them."""
        assert 0 <= length <= self.length
        self.length = length
