"""Text to tokens and back: training, encoding, chat templates, streaming."""

from ownlm.tokenizer.chat import CHAT_TEMPLATE, ChatTemplate, Rendered
from ownlm.tokenizer.compression import Compression, Piece, compression, cut
from ownlm.tokenizer.fill_in import FillMarks, fill_marks, fill_prompt
from ownlm.tokenizer.gguf_export import gguf_metadata
from ownlm.tokenizer.gguf_vocabulary import tokenizer_from_gguf
from ownlm.tokenizer.model_template import MaskUntoldError, ModelTemplate, chat_template_of
from ownlm.tokenizer.more_tokens import with_tokens
from ownlm.tokenizer.special import SPECIAL_TOKENS
from ownlm.tokenizer.stream import StreamDecoder
from ownlm.tokenizer.surplus import cut_to_rows
from ownlm.tokenizer.tokenizer import Tokenizer
from ownlm.tokenizer.train import train_tokenizer

__all__ = [
    "CHAT_TEMPLATE",
    "SPECIAL_TOKENS",
    "ChatTemplate",
    "Compression",
    "FillMarks",
    "MaskUntoldError",
    "ModelTemplate",
    "Piece",
    "Rendered",
    "StreamDecoder",
    "Tokenizer",
    "chat_template_of",
    "compression",
    "cut",
    "cut_to_rows",
    "fill_marks",
    "fill_prompt",
    "gguf_metadata",
    "tokenizer_from_gguf",
    "train_tokenizer",
    "with_tokens",
]
