"""The tokenizer: text to token ids and back, whatever its kind.

In:  text.
Out: ids; and from ids the same text again: decode(encode(text)) == text for every text.

    text --encode--> ids            no text can become a special token: the encoding model does not hold them
    text --encode_batch--> arrays   the same ids, several times as fast (bulk.py)
    ids --decode--> text            bytes first, then UTF-8, so a character may be cut over tokens

A Python string may hold half of a UTF-16 pair (a "lone surrogate", from a badly decoded file). That is no character
and has no bytes: it is read as U+FFFD.

Saved as tokenizer.json, the Hugging Face format: transformers' AutoTokenizer opens the folder and gives the same ids
(except for text such as "<|im_end|>", which it takes for the special token unless told `split_special_tokens=True`).
"""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Pipeline

from ownlm.errors import DamagedError, OwnlmError
from ownlm.tokenizer import bulk
from ownlm.tokenizer.chat import CHAT_TEMPLATE
from ownlm.tokenizer.reference import PATTERN, byte_characters
from ownlm.tokenizer.special import END_OF_TEXT, IM_END, IM_START, PAD, SPECIAL_TOKENS
from ownlm.tokenizer.stream import StreamDecoder

TOKENIZER_FILE = "tokenizer.json"
# What transformers writes where a tokenizer sets no limit.
NO_MAX_LENGTH = int(1e30)


def well_formed(text: str) -> str:
    """The text with each lone surrogate as U+FFFD; halves that stand together become their character."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class Tokenizer:
    """Made by `train_tokenizer` or `Tokenizer.load`; `kind` is "bpe", "word" or "character"."""

    def __init__(self, tokenizer_json: str) -> None:
        description = json.loads(tokenizer_json)
        self._json = tokenizer_json
        self.kind = _kind(description)
        self.special: dict[str, int] = {
            token["content"]: token["id"] for token in description["added_tokens"] if token["special"]
        }
        missing = [name for name in SPECIAL_TOKENS if name not in self.special]
        if missing:
            raise OwnlmError(f"the tokenizer lacks the special token {missing[0]}; train one with ownlm")
        # Text goes through a pipeline that holds no special tokens at all.
        try:
            self._plain = Pipeline.from_str(json.dumps({**description, "added_tokens": []}))
        except Exception as error:  # the library raises no narrower kind
            raise ValueError(str(error)) from None
        self._bytes = _bytes_of_tokens(self.kind, description["model"]["vocab"], self.special)

    @property
    def vocab_size(self) -> int:
        """Ids in use, the special ones among them."""
        return len(self._bytes)

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding: the next multiple of 64, which matrix products run best on."""
        return -(-self.vocab_size // 64) * 64

    @property
    def end_of_text_id(self) -> int:
        return self.special[END_OF_TEXT]

    @property
    def im_start_id(self) -> int:
        return self.special[IM_START]

    @property
    def im_end_id(self) -> int:
        return self.special[IM_END]

    @property
    def pad_id(self) -> int:
        return self.special[PAD]

    def encode(self, text: str) -> list[int]:
        """The ids of a text: no special token among them, whatever the text says, and none added."""
        ids: list[int] = self._plain.encode(well_formed(text), add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[bulk.Ids]:
        """The same ids for many texts, fast, as uint16 arrays where they fit and uint32 where not."""
        return self._encode_all([well_formed(text) for text in texts])

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; b"" for the rows that only pad the vocabulary."""
        if 0 <= token_id < len(self._bytes):
            return self._bytes[token_id]
        if not 0 <= token_id < self.padded_vocab_size:
            raise OwnlmError(
                f"there is no token {token_id}: this tokenizer's ids are 0 to {self.vocab_size - 1}; "
                "use the tokenizer that the ids were made with"
            )
        return b""

    def decode_bytes(self, ids: Iterable[int], *, skip_special: bool = False) -> bytes:
        return b"".join(map(self._bytes_of(skip_special), ids))

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """The text; special tokens by name unless skipped, bytes that are no UTF-8 as U+FFFD."""
        return self.decode_bytes(ids, skip_special=skip_special).decode("utf-8", "replace")

    def stream(self, *, skip_special: bool = False) -> StreamDecoder:
        """A decoder for ids that come one at a time."""
        return StreamDecoder(self._bytes_of(skip_special))

    def to_json(self) -> str:
        """The content of tokenizer.json."""
        return self._json

    def save(self, folder: Path, *, chat: bool = False, model_max_length: int | None = None) -> None:
        """Write the files of a Hugging Face folder; a chat model's ends its turn with <|im_end|>."""
        config = {
            # Without this class transformers rebuilds a Qwen folder's pipeline and gives other ids.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": None,
            "eos_token": IM_END if chat else END_OF_TEXT,
            "pad_token": PAD,
            "unk_token": None,
            "model_max_length": model_max_length or NO_MAX_LENGTH,
            "clean_up_tokenization_spaces": False,
        }
        files = {TOKENIZER_FILE: self._json, "tokenizer_config.json": json.dumps(config, indent=2) + "\n"}
        if chat:
            files["chat_template.jinja"] = CHAT_TEMPLATE
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            # The same bytes on every system: artefacts are known by their hashes.
            (folder / name).write_text(content, encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        path = folder / TOKENIZER_FILE
        try:
            return cls(path.read_text(encoding="utf-8"))
        except OSError:
            raise OwnlmError(f"{folder} holds no readable {TOKENIZER_FILE}; name a tokenizer's folder") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedError(f"{path} is damaged ({error!r}); copy or train the tokenizer anew") from None

    @cached_property
    def _encode_all(self) -> bulk.EncodeAll:
        ordinary = self._bytes[: self.vocab_size - len(self.special)]
        if self.kind == "bpe":
            return bulk.pair_encoder(self._plain, ordinary, self.special)
        dtype = bulk.smallest_dtype(self.vocab_size)
        if self.kind == "character":
            return bulk.character_encoder(ordinary, dtype)
        return bulk.batch_encoder(self._plain, dtype)

    def _bytes_of(self, skip_special: bool) -> Callable[[int], bytes]:
        if not skip_special:
            return self.token_bytes
        hidden = set(self.special.values())
        return lambda token_id: b"" if token_id in hidden else self.token_bytes(token_id)


def _kind(description: dict[str, Any]) -> str:
    """Which of our three kinds a tokenizer.json describes; see train.py for how each is told."""
    model, splitter = description["model"], description["pre_tokenizer"]
    if model["type"] == "BPE" and description["normalizer"] is None:
        if splitter is None and model["byte_fallback"] and not model["merges"]:
            return "character"
        if splitter is not None and {"Regex": PATTERN} in [
            part.get("pattern") for part in splitter.get("pretokenizers", [])
        ]:
            return "word" if model["ignore_merges"] else "bpe"
    raise OwnlmError("this tokenizer.json is not of a kind that ownlm trains; use a tokenizer made by ownlm")


def _bytes_of_tokens(kind: str, vocab: dict[str, int], special: dict[str, int]) -> list[bytes]:
    """Each id's bytes, undoing the spelling in which tokenizer.json writes them."""
    byte_of = {character: byte for byte, character in enumerate(byte_characters())}
    table = [b""] * (len(vocab) + len(special))
    for token, id in vocab.items():
        if kind != "character":
            table[id] = bytes(byte_of[character] for character in token)
        elif id < 256:
            table[id] = bytes([id])
        else:
            table[id] = token.encode()
    for name, id in special.items():
        table[id] = name.encode()
    return table
