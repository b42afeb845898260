"""The tokenizer: text to token ids and back, whatever its kind.

In:  text, and a tokenizer.json: one that ownlm trained, or any other model's.
Out: ids; and from ids the same text again: decode(encode(text)) == text for every text, where a tokenizer is ours or
     spells in bytes (some others normalise text or have a token for "unknown").

    text --encode--> ids            no text can become a special token, whatever it says
    text --prompt_ids--> ids        the same after what the model wants before a text, if anything (BOS)
    text --encode_batch--> arrays   the same ids, several times as fast (bulk.py)
    ids --decode--> text            bytes first, then UTF-8, so a character may be cut over tokens

A Python string may hold half of a UTF-16 pair (a "lone surrogate", from a badly decoded file). That is no character
and has no bytes: it is read as U+FFFD.

Ours are saved as tokenizer.json, the Hugging Face format: transformers' AutoTokenizer opens the folder and gives the
same ids (except for text such as "<|im_end|>", which it takes for the special token unless told
`split_special_tokens=True`).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Pipeline

from ownlm.errors import DamagedError, OwnlmError
from ownlm.tokenizer import bulk
from ownlm.tokenizer.folder import TOKENIZER_FILE, tokenizer_files, tokenizer_json_of
from ownlm.tokenizer.kinds import own_bytes, own_kind
from ownlm.tokenizer.pipelines import Pipelines, add_missing, prefix_of
from ownlm.tokenizer.settings import Settings, read_settings
from ownlm.tokenizer.special import END_OF_TEXT, IM_END, IM_START, PAD
from ownlm.tokenizer.stream import StreamDecoder
from ownlm.tokenizer.token_bytes import Spelling, bytes_of_tokens, spelling_of

# What a tokenizer.json may say of cutting and filling up: ownlm always encodes a text whole, as it is.
_WHOLE_TEXTS = ("truncation", "padding")


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
    """Made by `train_tokenizer`, `Tokenizer.load` or `tokenizer_from_gguf`.

    `kind` is "bpe", "word" or "character" for one of ours (then `own` is true), else what another's is called.
    """

    def __init__(self, tokenizer_json: str, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        try:
            description = json.loads(tokenizer_json)
            if any(description.get(name) is not None for name in _WHOLE_TEXTS):
                description |= dict.fromkeys(_WHOLE_TEXTS)
                tokenizer_json = json.dumps(description, ensure_ascii=False)
            _refuse_short_merges(description["model"])
            kind = own_kind(description)
            if kind is not None:
                self._set_up_own(description, kind)
            else:
                self._set_up(Pipeline.from_str(tokenizer_json), _tokens(description["model"]), description)
        except OwnlmError:
            raise
        except BaseException as error:
            # The library raises no narrower kind than Exception, and where its own code gives up, not even that.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            told = isinstance(error, ValueError) or type(error) is Exception
            raise ValueError(str(error) if told else "its parts do not fit together") from None
        # With tokens that stood beside the file, it is written anew.
        same = self.own or len(self._pipelines.added) == len(description["added_tokens"])
        self._json: str | None = tokenizer_json if same else None

    @classmethod
    def of_pipeline(
        cls, pipeline: Pipeline, tokens: Sequence[str], description: dict[str, Any], settings: Settings
    ) -> "Tokenizer":
        """One that was put together, with its tokens by id; `description` is its tokenizer.json without vocabulary."""
        tokenizer = cls.__new__(cls)
        tokenizer.settings = settings
        tokenizer._set_up(pipeline, tokens, description)
        tokenizer._json = None
        return tokenizer

    def _set_up_own(self, description: dict[str, Any], kind: str) -> None:
        self.own, self.kind = True, kind
        self.special: dict[str, int] = {token["content"]: token["id"] for token in description["added_tokens"]}
        # Text goes through a pipeline that holds no special tokens at all.
        self._plain = Pipeline.from_str(json.dumps({**description, "added_tokens": []}))
        self._bytes = own_bytes(kind, description["model"]["vocab"], self.special)
        self._spelling = Spelling(kind="byte-level")
        self.names = {"eos_token": END_OF_TEXT, "pad_token": PAD}
        self.prefix_ids: tuple[int, ...] = ()
        self.bos_id: int | None = None
        self.pad_id: int | None = self.special[PAD]
        self.end_ids: tuple[int, ...] = (self.special[IM_END], self.special[END_OF_TEXT])
        self.never_generated = tuple(sorted(self.special.values()))

    def _set_up(self, pipeline: Pipeline, tokens: Sequence[str | None], description: dict[str, Any]) -> None:
        model, settings = description["model"], self.settings
        self.own = False
        self._spelling = spelling_of(description["decoder"])
        self.kind = f"{self._spelling.kind} {model['type']}"
        added: list[dict[str, Any]] = list(description["added_tokens"])
        add_missing(pipeline, added, settings.added)
        # What the files name as the beginning or the end is special, whether or not tokenizer.json says so.
        named = [name for name in settings.names.values() if pipeline.token_to_id(name) is not None]
        for token in added:
            token["special"] = token["special"] or token["content"] in named
        add_missing(pipeline, added, [{"content": name, "special": True} for name in named])
        self._pipelines = Pipelines(pipeline, added, model.get("unk_token"))
        self._plain = self._pipelines.plain
        self.special = self._pipelines.special
        by_id: list[str | None] = [*tokens]
        by_id += [None] * (1 + max((token["id"] for token in added), default=-1) - len(by_id))
        for token in added:
            by_id[token["id"]] = token["content"]
        self._bytes = bytes_of_tokens(by_id, (token["id"] for token in added), self._spelling)
        self.names = dict(settings.names)
        self.bos_id, eos_id, self.pad_id = (
            pipeline.token_to_id(settings.names[role]) if role in settings.names else None
            for role in ("bos_token", "eos_token", "pad_token")
        )
        ends = dict.fromkeys([*settings.end_ids, *([] if eos_id is None else [eos_id])])
        self.end_ids = tuple(id for id in ends if 0 <= id < len(by_id))
        self.prefix_ids = tuple(prefix_of(pipeline))
        self.never_generated = tuple(id for id, token in enumerate(by_id) if token is None)

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
        """What stands after each document."""
        if END_OF_TEXT in self.special:
            return self.special[END_OF_TEXT]
        if "eos_token" in self.names:
            return self.special[self.names["eos_token"]]
        raise OwnlmError("this tokenizer has no token that ends a text; give its folder an eos_token, or train one")

    @property
    def im_start_id(self) -> int:
        return self._special_id(IM_START)

    @property
    def im_end_id(self) -> int:
        return self._special_id(IM_END)

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """The ids of a text: no special token among them, whatever the text says, and none added.

        `parse_special` is for text of which every special token is meant: what a chat template put.
        """
        text = well_formed(text)
        if parse_special:
            ids: list[int] = self.whole.encode(text, add_special_tokens=False).ids
        elif self.own:
            ids = self._plain.encode(text, add_special_tokens=False).ids
        else:
            ids = self._pipelines.encode(text)
        return ids

    def prompt_ids(self, text: str) -> list[int]:
        """The ids of a text to go on from: after the token that begins every text, if the model wants one."""
        return [*self.prefix_ids, *self.encode(text)]

    def continue_ids(self, text: str) -> list[int]:
        """The ids of a text that goes on from another: without a space that would be put before a whole text."""
        if not self.puts_space_before:
            return self.encode(text)
        # After a line break, which is then taken off, unless the two have become one.
        lead, both = self.encode("\n"), self.encode("\n" + text)
        return both[len(lead) :] if both[: len(lead)] == lead else self.encode(text)

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
        """All bytes that the ids stand for, a space that encoding put in front included."""
        return b"".join(map(self._bytes_of(skip_special), ids))

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """The text; special tokens by name unless skipped, bytes that are no UTF-8 as U+FFFD."""
        if self._spelling.dropped == "none":
            return self.decode_bytes(ids, skip_special=skip_special).decode("utf-8", "replace")
        decoder = self.stream(skip_special=skip_special)
        return "".join([*map(decoder.push, ids), decoder.finish()])

    def stream(self, *, skip_special: bool = False, after: Sequence[int] = ()) -> StreamDecoder:
        """A decoder for ids that come one at a time; `after` are those that they go on from, if any.

        Within a text the space before a word is a space; only where a text begins did encoding put one.
        """
        begins = not after or after[-1] in self.special.values()
        return StreamDecoder(self._bytes_of(skip_special), self._spelling.dropped if begins else "none")

    @cached_property
    def whole(self) -> Pipeline:
        """The pipeline of `tokenizers` that finds special tokens in a text."""
        return Pipeline.from_str(self.to_json()) if self.own else self._pipelines.whole

    @property
    def plain(self) -> Pipeline:
        """The pipeline that finds none."""
        return self._plain

    @property
    def added_names(self) -> set[str]:
        """Tokens that are found in a text though they are not special, by name."""
        return set() if self.own else {token["content"] for token in self._pipelines.added if not token["special"]}

    @property
    def puts_space_before(self) -> bool:
        """Whether encoding a text puts a space in front of it."""
        return self._spelling.dropped != "none"

    def to_json(self) -> str:
        """The content of tokenizer.json."""
        if self._json is None:
            self._json = self._pipelines.whole.to_str(pretty=True)
        return self._json

    def save(
        self,
        folder: Path,
        *,
        chat: bool = False,
        model_max_length: int | None = None,
        templates: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Write the files of a Hugging Face folder, and tell their names.

        A chat model of ours ends its turn with <|im_end|>.
        """
        folder.mkdir(parents=True, exist_ok=True)
        files = tokenizer_files(self, chat=chat, model_max_length=model_max_length, templates=templates)
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            # The same bytes on every system: artefacts are known by their hashes.
            (folder / name).write_text(content, encoding="utf-8", newline="\n")
        return list(files)

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Open the tokenizer of a folder: its tokenizer.json, or GPT-2's older pair of files."""
        content = tokenizer_json_of(folder)
        path = folder / TOKENIZER_FILE
        try:
            return cls(content, read_settings(folder))
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"{path} is damaged ({error}); copy or train the tokenizer anew") from None

    @cached_property
    def _encode_all(self) -> bulk.EncodeAll:
        dtype = bulk.smallest_dtype(self.vocab_size)
        if not self.own:
            return bulk.guarded_encoder(self._pipelines, dtype, self.vocab_size)
        ordinary = self._bytes[: self.vocab_size - len(self.special)]
        if self.kind == "bpe":
            return bulk.pair_encoder(self._plain, ordinary, self.special)
        if self.kind == "character":
            return bulk.character_encoder(ordinary, dtype)
        return bulk.batch_encoder(self._plain, dtype)

    def _bytes_of(self, skip_special: bool) -> Callable[[int], bytes]:
        if not skip_special:
            return self.token_bytes
        hidden = set(self.special.values())
        return lambda token_id: b"" if token_id in hidden else self.token_bytes(token_id)

    def _special_id(self, name: str) -> int:
        if name not in self.special:
            raise OwnlmError(f"this tokenizer has no {name}; chat by the template that its model came with")
        return self.special[name]


def _refuse_short_merges(model: dict[str, Any]) -> None:
    """The library cuts the prefix of inner pieces off without a look, and ends in a panic where there is none."""
    prefix = model.get("continuing_subword_prefix")
    if model.get("type") != "BPE" or not isinstance(prefix, str) or not prefix:
        return
    for merge in model["merges"]:
        inner = merge.partition(" ")[2] if isinstance(merge, str) else merge[1]
        if len(inner.encode()) < len(prefix.encode()):
            raise ValueError(f"its merge of {inner!r} lacks the prefix of inner pieces")


def _tokens(model: dict[str, Any]) -> list[str | None]:
    """The tokens of a tokenizer.json's model by id; None where no token has the id."""
    vocab = model["vocab"]
    if isinstance(vocab, list):
        return [token for token, _ in vocab]
    # A damaged file may name an id far beyond what its size can hold.
    if max(vocab.values(), default=0) > 4 * len(vocab) + 2**20 or min(vocab.values(), default=0) < 0:
        raise ValueError("its ids are far apart")
    table: list[str | None] = [None] * (1 + max(vocab.values(), default=-1))
    for token, id in vocab.items():
        table[id] = token
    return table
