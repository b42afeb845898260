"""Constrained decoding: only what a grammar allows can be drawn, by llguidance.

In:  a Grammar (JSON schema, regular expression, Lark, GBNF, choices) and the model's tokenizer.
Out: a Matcher for one request, which forbids tokens by setting their logits to -inf.

    compiler = GrammarCompiler(tokenizer, width, end_ids)     once a model
    matcher = compiler.start(grammar, after=prompt_ids)       once a request
    matcher.mask(logits_V); matcher.accept(drawn)             for each token

A grammar is about the answer's text: special tokens can never be part of it, and the model's ends are allowed where
the text is whole. Matching goes by bytes, so that any split into tokens will do and UTF-8 stays whole.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from torch import Tensor

from ownlm.engine import grammar_check
from ownlm.errors import OwnlmError
from ownlm.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

Kind = Literal["json_schema", "json_object", "regex", "lark", "gbnf", "choice"]
NAMES: dict[Kind, str] = {
    "json_schema": "the JSON schema",
    "json_object": "the JSON grammar",
    "regex": "the regular expression",
    "lark": "the Lark grammar",
    "gbnf": "the GBNF grammar",
    "choice": "the list of choices",
}
MOST_BYTES = 2**18
MOST_CHOICES = 10_000
CACHED = 64
# The trial's own limit is on computing; this is for a machine that has other things to do.
TRIAL_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Grammar:
    """What an answer must look like: `text` in the language of `kind`; texts for a "choice", none for "json_object"."""

    kind: Kind
    text: str | tuple[str, ...] = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise OwnlmError(f"a grammar's kind is one of {', '.join(get_args(Kind))}; got {self.kind!r}")
        name = NAMES[self.kind]
        texts = self.text if isinstance(self.text, tuple) else (self.text,)
        if isinstance(self.text, tuple) != (self.kind == "choice") or not all(isinstance(text, str) for text in texts):
            raise OwnlmError(f"{name} must be {'a tuple of texts' if self.kind == 'choice' else 'a text'}")
        if self.kind == "json_object":
            if self.text:
                raise OwnlmError('a grammar of kind "json_object" takes no text; a schema is of kind "json_schema"')
            return
        if not texts or not all(text if self.kind in ("choice", "regex") else text.strip() for text in texts):
            raise OwnlmError(f"{name} is empty or holds an empty text; say what the answer must look like")
        if len(texts) > MOST_CHOICES:
            raise OwnlmError(f"{name} has {len(texts):,} texts; {MOST_CHOICES:,} is the most")
        try:
            size = sum(len(text.encode()) for text in texts)
        except UnicodeEncodeError:
            raise OwnlmError(f"{name} holds half a character (a lone surrogate); read its file as UTF-8") from None
        if size > MOST_BYTES:
            raise OwnlmError(f"{name} has {size:,} bytes; {MOST_BYTES:,} is the most")

    @classmethod
    def for_schema(cls, schema: dict[str, Any] | bool) -> "Grammar":
        """From a JSON schema as Python has it."""
        try:
            return cls(kind="json_schema", text=json.dumps(schema, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise OwnlmError(f"the JSON schema cannot be written as JSON: {error}") from None


class GrammarCompiler:
    """Grammars for one model: its tokenizer, the width of its logits, and the ids that end an answer.

    `compile` may take a second and can be called from any thread beforehand; `start` is then quick.
    """

    def __init__(self, tokenizer: Tokenizer, width: int, end_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._width = width
        self._end_ids = [id for id in dict.fromkeys(end_ids) if 0 <= id < width]
        self.compile = lru_cache(CACHED)(self._compile)

    def start(self, grammar: Grammar, *, after: Sequence[int] = ()) -> "Matcher":
        """A matcher for an answer that goes on from the ids `after`."""
        begins = not after or after[-1] in self._tokenizer.special.values()
        # Where a text begins, decoding drops the space of its first token: it would be missing in what was matched.
        first_bits = self._unspaced_bits if begins and self._tokenizer.puts_space_before else None
        return Matcher(self.compile(grammar).deep_copy(), self._text_bits, first_bits)

    def _compile(self, grammar: Grammar) -> "LLMatcher":
        from llguidance import LLMatcher

        if grammar.kind == "choice":
            # json.dumps leaves this one control character as it is.
            choices = [json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f") for text in grammar.text]
            text = LLMatcher.grammar_from_lark(f"start: CHOICE\nCHOICE: {' | '.join(dict.fromkeys(choices))}")
        elif grammar.kind == "json_object":
            text = grammar_check.grammar_for_llguidance("json_schema", '{"type": "object"}')
        else:
            text = _tried(grammar)
        matcher = LLMatcher(self._vocabulary, text, log_level=0)
        # What depends on the grammar alone is computed here, once.
        if not matcher.is_error():
            matcher.compute_bitmask()
        if matcher.is_error():
            raise _refused(grammar, grammar_check.plain_reason(matcher.get_error()))
        return matcher

    @cached_property
    def _tokens(self) -> list[bytes]:
        """The bytes by which an id may stand in a text; b"" for special tokens, ends, and what is no UTF-8.

        The last is no id of the model's: the end of one that has none.
        """
        never = {*self._tokenizer.special.values(), *self._end_ids}
        size = min(self._width, self._tokenizer.vocab_size)
        tokens = [b"" if id in never else self._tokenizer.token_bytes(id) for id in range(size)]
        # llguidance takes a token that begins with the byte 255 for a special one.
        return [b"" if b"\xff" in token else token for token in tokens] + [b""] * (self._width - size + 1)

    @cached_property
    def _vocabulary(self) -> "LLTokenizer":
        from llguidance import LLTokenizer

        vocabulary = _Vocabulary(self._tokenizer, self._tokens)
        return LLTokenizer(vocabulary, eos_token=self._end_ids or self._width)  # type: ignore[arg-type]

    @cached_property
    def _text_bits(self) -> "np.ndarray[Any, np.dtype[np.int32]]":
        """A bit for each id that can be drawn: grammars may ask for others by number."""
        return _bits([token != b"" or id in self._end_ids for id, token in enumerate(self._tokens)])

    @cached_property
    def _unspaced_bits(self) -> "np.ndarray[Any, np.dtype[np.int32]]":
        return _bits([not token.startswith(b" ") for token in self._tokens])


class Matcher:
    """Where one answer stands in its grammar."""

    def __init__(
        self,
        matcher: "LLMatcher",
        text_bits: "np.ndarray[Any, np.dtype[np.int32]]",
        first_bits: "np.ndarray[Any, np.dtype[np.int32]] | None",
    ) -> None:
        self._matcher = matcher
        self._text_bits = text_bits
        self._first_bits = first_bits
        self._allowed_bits = np.zeros_like(text_bits)
        self._bias_V8 = np.zeros((4 * text_bits.size, 8), dtype=np.float32)

    def mask(self, logits_V: Tensor) -> None:
        """Set to -inf what may not come next, on the CPU; the ends stay only where the text is whole."""
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self._matcher, self._allowed_bits)
        self._check()
        self._allowed_bits &= self._text_bits
        if self._first_bits is not None:
            self._allowed_bits &= self._first_bits
        # A table's rows, added: masked_fill_ takes ten times as long where the allowed are scattered.
        np.take(_bias_of_byte(), self._allowed_bits[0].view(np.uint8), axis=0, mode="clip", out=self._bias_V8)
        scores_V, bias_V = logits_V.numpy(), self._bias_V8.reshape(-1)
        shared = min(len(bias_V), len(scores_V))
        scores_V[:shared] += bias_V[:shared]
        scores_V[shared:] = -np.inf
        if scores_V.max() == -np.inf:
            raise OwnlmError(
                "the answer cannot go on: none of the model's tokens spells what the grammar asks for next; "
                "loosen the grammar or what forbids tokens"
            )

    def accept(self, token_id: int) -> None:
        """Go on by a token that `mask` allowed."""
        self._first_bits = None
        self._matcher.consume_token(token_id)
        self._check()

    @property
    def complete(self) -> bool:
        """Whether the text so far is a whole sentence of the grammar."""
        return self._matcher.is_accepting()

    @property
    def ended(self) -> bool:
        """Whether nothing more may follow."""
        return self._matcher.is_stopped()

    def forced(self) -> list[int]:
        """The tokens that must come next, as far as there is only one way on."""
        if self.ended or self._first_bits is not None:
            return []
        return self._matcher.compute_ff_tokens()

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = grammar_check.plain_reason(self._matcher.get_error())
            raise OwnlmError(f"the answer left its grammar or the grammar is too costly to follow: {reason}")


class _Vocabulary:
    """What llguidance wants of a tokenizer: bytes by id, and how a text that must come would be split."""

    is_tokenizer_wrapper = True
    bos_token_id = None
    special_token_ids: tuple[int, ...] = ()

    def __init__(self, tokenizer: Tokenizer, tokens: list[bytes]) -> None:
        self._tokenizer = tokenizer
        self.tokens = tokens
        self.eos_token_id = len(tokens) - 1
        self._shortest = {token[0]: id for id, token in reversed([*enumerate(tokens)]) if len(token) == 1}

    def __call__(self, text: str) -> list[int]:
        ids = self._tokenizer.continue_ids(text)
        spelled = text.encode()
        if b"".join(self.tokens[id] for id in ids if id < len(self.tokens)) == spelled:
            return ids
        # A tokenizer that changes text: byte by byte, as far as it has the bytes.
        return [self._shortest[byte] for byte in spelled if byte in self._shortest]


@lru_cache(CACHED)
def _tried(grammar: Grammar) -> str:
    """The grammar as llguidance takes it, after a trial in a process of its own (grammar_check.py)."""
    try:
        trial = subprocess.run(
            # -P: the script's folder holds modules whose names are the standard library's elsewhere.
            [sys.executable, "-P", str(Path(grammar_check.__file__))],
            input=json.dumps({"kind": grammar.kind, "text": grammar.text}).encode(),
            capture_output=True,
            timeout=TRIAL_SECONDS,
            check=True,
        )
        result = json.loads(trial.stdout)
    except (subprocess.SubprocessError, ValueError):
        raise _refused(grammar, "it is nested too deeply or takes too long to compile") from None
    if "error" in result:
        raise _refused(grammar, result["error"])
    return str(result["grammar"])


def _refused(grammar: Grammar, reason: str) -> OwnlmError:
    return OwnlmError(f"{NAMES[grammar.kind]} cannot be used: {reason}; docs/grammars.md says what can")


@cache
def _bias_of_byte() -> "np.ndarray[Any, np.dtype[np.float32]]":
    """[256, 8]: for eight ids by their bits, 0 where allowed and -inf where not."""
    allowed = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    return np.where(allowed, 0, -np.inf).astype(np.float32)


def _bits(flags: Sequence[bool]) -> "np.ndarray[Any, np.dtype[np.int32]]":
    """[1, words]: 32 flags a word, as llguidance packs them."""
    padded = np.zeros(-(-len(flags) // 32) * 32, dtype=np.uint8)
    padded[: len(flags)] = flags
    return np.packbits(padded, bitorder="little").view(np.int32)[None]
