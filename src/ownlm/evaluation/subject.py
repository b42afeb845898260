"""What a task asks of a model: how likely given words are, what it answers, how well it foretells a text.

In:  prompts as texts or, where `chat`, as messages. Out: Likelihood, Said, Piece.

`Subject` is the interface, which a few lines can stand for in a test; ModelSubject asks an opened Model.

A prompt and what may follow it are cut into tokens as lm-eval does (api/model.py of 0.4.13): the spaces that end the
prompt go to what follows, both are encoded as one text, and what the prompt alone takes comes off the front. Where a
token reaches over the border, it counts with what follows, and the item is flagged. An empty prompt is the token that
begins a text, else the one that ends one. In a chat, the words are encoded as the template puts them into the answer.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ownlm.engine import Request, Sampling, Ticket, completions, run
from ownlm.engine.perplexity import windows
from ownlm.engine.score import Pair, Read, token_log_likelihoods
from ownlm.errors import OwnlmError
from ownlm.opened import Model

Asked = str | Sequence[Mapping[str, Any]]
# A text's figures are told for pieces of about so many bytes: what an interval is made from.
PIECE_BYTES = 1_000
# Of a text at once: longer contexts foretell better, and cost more.
MOST_CONTEXT = 1024
_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Of the words after a prompt: log-probability in nats, how many tokens, and what happened to them."""

    nats: float
    tokens: int
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Said:
    """An answer; or the reason why there is none."""

    text: str = ""
    finish_reason: str = "stop"
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of a text: the nats and tokens that foretelling it took, and its bytes."""

    nats: float
    tokens: int
    bytes: int


class Subject(Protocol):
    chat: bool

    def likelihoods(self, pairs: Sequence[tuple[Asked, str]]) -> list[Likelihood]: ...

    def answers(self, prompts: Sequence[Asked], *, max_tokens: int, stop: Sequence[str]) -> list[Said]: ...

    def pieces(self, texts: Sequence[str]) -> list[list[Piece]]: ...


class ModelSubject:
    """`progress` hears (done, total) of what is being computed."""

    def __init__(self, model: Model, *, chat: bool = False, progress: Read | None = None) -> None:
        if chat and model.template is None:
            raise OwnlmError(f"{model.name} was never tuned to chat; leave --chat out")
        self.model, self.chat, self.progress = model, chat, progress

    def likelihoods(self, pairs: Sequence[tuple[Asked, str]]) -> list[Likelihood]:
        encoded = [self._encoded(asked, text) for asked, text in pairs]
        scored = self._nats([pair for pair, _ in encoded])
        limit = self.model.decoder.config.max_position_embeddings
        return [
            Likelihood(
                nats=math.fsum(nats),
                tokens=len(nats),
                flags=flags | ({"truncated"} if len(context) + len(continuation) > limit + 1 else set()),
            )
            for nats, ((context, continuation), flags) in zip(scored, encoded, strict=True)
        ]

    def answers(self, prompts: Sequence[Asked], *, max_tokens: int, stop: Sequence[str]) -> list[Said]:
        said: list[Said] = []
        sampling = Sampling(temperature=0, max_tokens=max_tokens, stop=tuple(stop))
        for first in range(0, len(prompts), _AT_ONCE):
            requests: list[Request | str] = []
            for asked in prompts[first : first + _AT_ONCE]:
                try:
                    request = Request(prompt=self._prompt(asked), sampling=sampling, adapter=self.model.adapter)
                    self.model.engine.check(request)
                    requests.append(request)
                except OwnlmError as error:
                    requests.append(str(error))
            tickets = iter(run(self.model.engine, [one for one in requests if isinstance(one, Request)]))
            said += (Said(error=one) if isinstance(one, str) else _said(next(tickets)) for one in requests)
            if self.progress is not None:
                self.progress(len(said), len(prompts))
        return said

    def pieces(self, texts: Sequence[str]) -> list[list[Piece]]:
        """Windows overlap by half, as in engine/perplexity.py; every byte of a text counts, its first ones too."""
        context = min(self.model.decoder.config.max_position_embeddings, MOST_CONTEXT)
        ids = [[*self._beginning()[-1:], *self.model.tokenizer.encode(text)] for text in texts]
        arrays = [np.array(text_ids) for text_ids in ids]
        pairs: list[Pair] = []
        counts = []
        for array in arrays:
            before = len(pairs)
            parted = ((window[:-fresh], window[-fresh:]) for window, fresh in windows([array], context))
            pairs += ((known.tolist(), counted.tolist()) for known, counted in parted)
            counts.append(len(pairs) - before)
        nats = iter(self._nats(pairs))
        return [
            self._by_piece(text, text_ids[1:], [value for _ in range(count) for value in next(nats)])
            for text, text_ids, count in zip(texts, ids, counts, strict=True)
        ]

    def _by_piece(self, text: str, ids: Sequence[int], nats: Sequence[float]) -> list[Piece]:
        """A token is of the piece in which its first byte stands."""
        ends = np.cumsum([_size(part) for part in cut(text)])
        sizes = [len(self.model.tokenizer.token_bytes(id)) for id in ids]
        # A tokenizer may put a space before a text: what stands behind the end is of the last piece.
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]) if sizes else np.zeros(0)
        of_token = np.minimum(np.searchsorted(ends, starts, side="right"), len(ends) - 1)
        sums, tokens = np.zeros(len(ends)), np.zeros(len(ends), dtype=int)
        np.add.at(sums, of_token, [-value for value in nats])
        np.add.at(tokens, of_token, 1)
        bytes_ = np.diff(ends, prepend=0)
        return [Piece(nats=float(a), tokens=int(b), bytes=int(c)) for a, b, c in zip(sums, tokens, bytes_, strict=True)]

    def _nats(self, pairs: Sequence[Pair]) -> list[list[float]]:
        model = self.model
        return token_log_likelihoods(model.decoder, pairs, adapter=model.adapter, progress=self.progress)

    def _prompt(self, asked: Asked) -> list[int]:
        if not isinstance(asked, str):
            return self.model.chat_prompt(asked)
        return self.model.tokenizer.prompt_ids(asked) or list(self._beginning())

    def _encoded(self, asked: Asked, text: str) -> tuple[Pair, frozenset[str]]:
        """Ids of prompt and words, and whether a token reached over their border."""
        if not isinstance(asked, str):
            return self._encoded_answer(asked, text)
        tokenizer, prompt = self.model.tokenizer, asked.rstrip()
        if not prompt:
            return (list(self._beginning()), tokenizer.encode(asked + text)), frozenset()
        return _parted(tokenizer.prompt_ids(prompt), tokenizer.prompt_ids(asked + text))

    def _encoded_answer(self, messages: Sequence[Mapping[str, Any]], text: str) -> tuple[Pair, frozenset[str]]:
        """The answer's words without what ends its turn: so lm-eval has it, for a choice is no whole answer."""
        template = self.model.template
        assert template is not None
        rendered = template.render([*messages, {"role": "assistant", "content": text}])
        trained = [place for place, is_trained in enumerate(rendered.trained) if is_trained]
        while trained and rendered.ids[trained[-1]] in template.stop_ids:
            trained.pop()
        # Of an answer that is nothing but its end, nothing can be told.
        whole = rendered.ids[: trained[-1] + 1] if trained else []
        prompt = self.model.chat_prompt(messages)
        if trained and whole[: len(prompt)] != prompt:
            # The template writes an answer's header otherwise than a prompt's: then as in training.
            prompt = rendered.ids[: trained[0]]
        return _parted(prompt, whole)

    def _beginning(self) -> tuple[int, ...]:
        """What stands before a text of which nothing is known."""
        tokenizer = self.model.tokenizer
        if tokenizer.prefix_ids:
            return tokenizer.prefix_ids
        return (tokenizer.end_of_text_id if tokenizer.bos_id is None else tokenizer.bos_id,)


def cut(text: str) -> Iterator[str]:
    """The text in pieces of whole lines, each of at least PIECE_BYTES but for the last; together the text."""
    piece, size = [], 0
    for line in text.splitlines(keepends=True):
        piece.append(line)
        size += _size(line)
        if size >= PIECE_BYTES:
            yield "".join(piece)
            piece, size = [], 0
    if piece:
        yield "".join(piece)


def _said(ticket: Ticket) -> Said:
    if ticket.error is not None:
        return Said(error=ticket.error)
    (done,) = completions(ticket)
    return Said(text=done.text, finish_reason=done.finish_reason)


def _size(text: str) -> int:
    # Half a character, which JSON may hold, is encoded as the three bytes of U+FFFD.
    return len(text.encode(errors="surrogatepass"))


def _parted(prompt: list[int], both: list[int]) -> tuple[Pair, frozenset[str]]:
    count = len(prompt)
    if both[:count] == prompt:
        return (prompt, both[count:]), frozenset()
    count = next((place for place, (a, b) in enumerate(zip(prompt, both, strict=False)) if a != b), len(both) - 1)
    # The first token stays with the prompt: something must come before what is foretold.
    return (both[: max(1, count)], both[max(1, count) :]), frozenset({"merged"})
