"""Train a tokenizer: count what the text is made of, and give the most frequent parts a token of their own.

In:  texts, one string a document (an iterator: they are read once and never held together).
Out: a Tokenizer of one of three kinds, each of which can spell any text, for each holds the 256 bytes.

    bpe         the default: frequent sequences of bytes, found by merging pairs (reference.py shows how)
    word        the most frequent words; a rare word is spelt in bytes, so nothing is ever lost
    character   the characters seen, the most frequent first; any other is spelt in its UTF-8 bytes

All three are a BPE model to `tokenizers`, so one tokenizer.json serves them all: "word" is one without merges that
looks whole words up first (`ignore_merges`), "character" one without merges or splitting (`byte_fallback`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal, get_args

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Pipeline

from ownlm.errors import OwnlmError
from ownlm.tokenizer.reference import PATTERN, byte_characters, byte_order
from ownlm.tokenizer.special import SPECIAL_TOKENS
from ownlm.tokenizer.tokenizer import Tokenizer, well_formed

Kind = Literal["bpe", "word", "character"]

SMALLEST_VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)
# What occurs once in the whole text is no pattern: a token for it would be seen once in training.
MIN_FREQUENCY = 2


def train_tokenizer(texts: Iterable[str], *, kind: Kind = "bpe", vocab_size: int) -> Tokenizer:
    """Train on texts; `vocab_size` counts the special tokens and is reached only if the texts are rich enough."""
    if kind not in get_args(Kind):
        raise OwnlmError(f"tokenizer kind {kind!r} is unknown; use one of: {', '.join(get_args(Kind))}")
    if vocab_size < SMALLEST_VOCAB_SIZE:
        raise OwnlmError(
            f"vocab_size {vocab_size} is too small: 256 bytes and {len(SPECIAL_TOKENS)} special tokens need "
            f"{SMALLEST_VOCAB_SIZE}; choose more"
        )
    ordinary = vocab_size - len(SPECIAL_TOKENS)
    make = {"bpe": _byte_pairs, "word": _words, "character": _characters}[kind]
    pipeline = make(_not_empty(texts), ordinary)
    pipeline.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL_TOKENS])
    return Tokenizer(pipeline.to_str(pretty=True))


def _byte_pairs(texts: Iterator[str], vocab_size: int) -> Pipeline:
    pipeline = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_FREQUENCY,
        initial_alphabet=byte_characters(),
        show_progress=False,
    )
    pipeline.train_from_iterator(texts, trainer)
    return pipeline


def _words(texts: Iterator[str], vocab_size: int) -> Pipeline:
    counter = _byte_level(models.WordLevel())
    # At most 256 of the words found are single bytes, which have their tokens already.
    trainer = trainers.WordLevelTrainer(
        vocab_size=vocab_size, min_frequency=MIN_FREQUENCY, special_tokens=[], show_progress=False
    )
    counter.train_from_iterator(texts, trainer)
    found = counter.get_vocab(with_added_tokens=False)
    characters = byte_characters()
    tokens = [characters[byte] for byte in byte_order()]
    tokens += [word for word in sorted(found, key=found.__getitem__) if len(word) > 1]
    vocab = {token: id for id, token in enumerate(tokens[:vocab_size])}
    return _byte_level(models.BPE(vocab=vocab, merges=[], ignore_merges=True))


def _characters(texts: Iterator[str], vocab_size: int) -> Pipeline:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    seen = [character for character in counts if not character.isascii()]
    seen.sort(key=lambda character: (-counts[character], character))
    # The first 256 ids are the byte values: below 128 a byte is a character, above it is a part of one.
    tokens = [chr(byte) if byte < 0x80 else f"<0x{byte:02X}>" for byte in range(256)]
    vocab = {token: id for id, token in enumerate((tokens + seen)[:vocab_size])}
    pipeline = Pipeline(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    pipeline.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return pipeline


def _byte_level(model: models.Model) -> Pipeline:
    pipeline = Pipeline(model)
    pipeline.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pipeline.decoder = decoders.ByteLevel()
    return pipeline


def _not_empty(texts: Iterable[str]) -> Iterator[str]:
    empty = True
    for text in texts:
        if text:
            empty = False
            yield well_formed(text)
    if empty:
        raise OwnlmError("there is no text to train a tokenizer on; give at least one document that is not empty")
