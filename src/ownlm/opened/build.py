"""The decoder of a model's files, with the adapter that they may be."""

import torch

from ownlm.errors import OwnlmError
from ownlm.model import Decoder
from ownlm.model.load import build_decoder
from ownlm.model.lora import LoraAdapter, attach
from ownlm.model.more_rows import add_rows
from ownlm.opened.files import ModelFiles

_NO_ROWS = "tokens get no rows of their own beside a file's 4-bit blocks; open the model with quantize='none'"


def build(
    files: ModelFiles,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    keep_blocks: bool = False,
    four_bits: bool = False,
) -> Decoder:
    """As build_decoder; an adapter is merged where float32 weights can take it whole, else it stands beside them."""
    decoder = build_decoder(files.checkpoint, device=device, dtype=dtype, keep_blocks=keep_blocks, four_bits=four_bits)
    if files.new_tokens:
        if keep_blocks:
            raise OwnlmError(_NO_ROWS)
        add_rows(decoder, used=files.tokenizer.vocab_size - files.new_tokens, new=files.new_tokens)
    if files.adapter is not None:
        adapter = LoraAdapter.load(files.adapter, decoder)
        if adapter.rows is not None and keep_blocks:
            raise OwnlmError(_NO_ROWS)
        if dtype == torch.float32 and not decoder.in_blocks:
            adapter.merge(decoder)
        else:
            attach(decoder, adapter)
    return decoder
