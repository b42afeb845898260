"""Texts that are only read: into vectors, and by how well they answer a query; whatever model it is.

    texts, ids ──prompt──▶ checked, framed ──in_groups──▶ a few at a time ──▶ a vector or a score each
                                                                │
        a decoder: requests of its engine, which reads them beside everybody's answers, step by step
        an embedding model, a cross-encoder: on its own thread

A long job holds a small share of the places at a model, so that others are answered beside it.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Protocol, TypeVar

from torch import Tensor

from ownlm.engine import Request
from ownlm.engine.background import AsyncAnswer
from ownlm.errors import OwnlmError
from ownlm.model.pooling import MODULES
from ownlm.opened.embedder import STEP_TEXTS, STEP_TOKENS, groups
from ownlm.server.errors import bad, of_engine
from ownlm.server.guard.asked import AskedCheck
from ownlm.server.guard.refusal import CONTENT_FILTER
from ownlm.server.hosted import Hosted, Served
from ownlm.server.hosted_embedder import HostedEmbedder
from ownlm.server.principal import Principal
from ownlm.server.service import Service
from ownlm.tokenizer.frame import Framed

T = TypeVar("T")
# Characters of a text that a policy's rules look through.
_MOST_CHECKED = 1_000_000
Read = Callable[[Sequence[Framed]], Awaitable[Sequence[T]]]


class Reader(Protocol):
    """`texts`, `tokens`: how much is read at once. `dimensions`: to which a vector may be cut. `check`: who reads all
    that is given beforehand, where the server has a policy.
    """

    texts: int
    tokens: int
    places: int
    dimensions: Sequence[int]
    check: AskedCheck | None

    @property
    def hosted(self) -> Hosted | HostedEmbedder: ...

    def prompt(self, given: str | list[int], where: str, *, cut: bool) -> Framed:
        """ApiError where it is empty, too long, or holds ids that are no token's."""
        ...

    async def vectors(self, prompts: Sequence[Framed]) -> Sequence[Tensor]:
        """Of unit length, on the CPU."""
        ...


class DecoderReader:
    """The mean of the last hidden states. Every text is a request of the engine."""

    dimensions: Sequence[int] = ()
    embeds = True

    def __init__(self, served: Served, principal: Principal, check: AskedCheck | None = None) -> None:
        self.check = check
        hosted, place = served.hosted, served.hosted.files.place
        if (place / MODULES).is_file():
            raise bad("this model was made for embeddings of a kind that is not computed here", "model")
        self.hosted, self._adapter = hosted, served.adapter
        self.tokens = hosted.engine_config.step_tokens
        self.texts = self.places = max(1, hosted.engine_config.max_sequences // 4)
        self._salt = f"{principal.id}:"

    def prompt(self, given: str | list[int], where: str, *, cut: bool) -> Framed:
        hosted, tokenizer = self.hosted, self.hosted.files.tokenizer
        ids = tokenizer.prompt_ids(given) if isinstance(given, str) else given
        if not ids:
            raise bad(f"{where} is empty", where)
        ids = ids[: hosted.context] if cut else ids
        if len(ids) > hosted.context:
            raise _too_long(where, len(ids), hosted.context)
        _check_ids(ids, tokenizer.vocab_size, where)
        if self.check is not None:
            # What stands in a masked place may be longer than what stood there.
            ids = self.check.ids(ids, tokenizer)[: hosted.context]
        return Framed(ids=ids, types=[])

    async def vectors(self, prompts: Sequence[Framed]) -> Sequence[Tensor]:
        answers: list[AsyncAnswer] = []
        try:
            for prompt in prompts:
                request = Request(prompt=prompt.ids, embed=True, cache_salt=self._salt)
                answers.append(self.hosted.submit(request, self._adapter))
            return [await _vector(answer) for answer in answers]
        except OwnlmError as error:
            raise of_engine(error) from error
        finally:
            for answer in answers:
                answer.cancel()


class EncoderReader:
    texts, tokens, places = STEP_TEXTS, STEP_TOKENS, 1

    def __init__(self, hosted: HostedEmbedder, check: AskedCheck | None = None) -> None:
        self.check = check
        self.hosted, self._embedder = hosted, hosted.embedder
        self.dimensions: Sequence[int] = self._embedder.bert.config.dimensions

    @property
    def embeds(self) -> bool:
        return self._embedder.embeds

    def prompt(self, given: str | list[int], where: str, *, cut: bool) -> Framed:
        embedder = self._embedder
        if not given:
            raise bad(f"{where} is empty", where)
        if isinstance(given, str):
            return self._framed(self.encode(given), None, where, cut=cut)
        _check_ids(given, embedder.bert.config.vocab_size, where)
        # Ids are read as they are, as everywhere: whoever gives them gives the frame too.
        ids = given[: embedder.context] if cut else given
        if len(ids) > embedder.context:
            raise _too_long(where, len(ids), embedder.context)
        if self.check is not None:
            ids = self.check.ids(ids, embedder.tokenizer)[: embedder.context]
        return Framed(ids=ids, types=[0] * len(ids))

    def pair(self, query: list[int], document: str, where: str, *, cut: bool) -> Framed:
        return self._framed(query, self.encode(document), where, cut=cut)

    def encode(self, text: str) -> list[int]:
        if self.check is not None:
            if len(text) > _MOST_CHECKED:
                raise bad(f"a text has {len(text)} characters; {_MOST_CHECKED} are the most that is read here")
            text = self.check.text(text)
        return self._embedder.tokenizer.encode(text)

    def _framed(self, first: list[int], second: list[int] | None, where: str, *, cut: bool) -> Framed:
        embedder = self._embedder
        tokens = len(first) + len(second or ()) + embedder.frame.size(pair=second is not None)
        if tokens > embedder.context and not cut:
            raise _too_long(where, tokens, embedder.context)
        return embedder.framed_ids(first, second, cut=cut)

    async def vectors(self, prompts: Sequence[Framed]) -> Sequence[Tensor]:
        return list(await self.hosted.run(lambda embedder: embedder.vectors(prompts)))

    async def scores(self, pairs: Sequence[Framed]) -> Sequence[float]:
        return await self.hosted.run(lambda embedder: embedder.scores(pairs))


AnyReader = DecoderReader | EncoderReader


def reader_of(service: Service, model: str, principal: Principal) -> AnyReader:
    """For one request."""
    found = service.find_reader(model, principal)
    names = [found.name] if isinstance(found, HostedEmbedder) else [found.name, found.hosted.name]
    check = None if service.guard is None else service.guard.check(names, principal)
    return EncoderReader(found, check) if isinstance(found, HostedEmbedder) else DecoderReader(found, principal, check)


async def in_groups(
    service: Service,
    reader: Reader,
    principal: Principal,
    prompts: Sequence[Framed],
    read: Read[T],
    *,
    background: bool = False,
) -> list[T]:
    """What `read` makes of each prompt, in their order. Other requests are answered in between."""
    if service.guard is not None and reader.check is not None:
        refusal = await service.guard.settle(reader.check, principal, reader.hosted.name)
        if refusal is not None:
            raise bad(refusal, code=CONTENT_FILTER)
    lengths = [len(prompt.ids) for prompt in prompts]
    found: dict[int, T] = {}
    place = service.reading(
        reader.hosted,
        principal,
        texts=min(len(prompts), reader.places),
        tokens=sum(lengths),
        background=background,
    )
    async with place:
        for places in groups(lengths, tokens=reader.tokens, texts=reader.texts):
            found |= zip(places, await read([prompts[place] for place in places]), strict=True)
    return [found[place] for place in range(len(prompts))]


async def _vector(answer: AsyncAnswer) -> Tensor:
    async with aclosing(aiter(answer)) as pieces:
        async for _ in pieces:
            pass
    assert answer.ticket is not None and answer.ticket.embedding_E is not None
    return answer.ticket.embedding_E


def _check_ids(ids: Sequence[int], end: int, where: str) -> None:
    if any(not 0 <= id < end for id in ids):
        raise bad(f"{where} holds an id that is no token's; ids are 0 to {end - 1}", where)


def _too_long(where: str, tokens: int, most: int) -> Exception:
    return bad(
        f"{where} has {tokens} tokens, the model reads {most} at once; shorten it, or set truncate to true",
        where,
        code="context_length_exceeded",
    )
