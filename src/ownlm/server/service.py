"""What all routes share: the models, the limits, and who counts; one object, which the app holds."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request as HttpRequest

from ownlm.engine.grammar import Grammar
from ownlm.engine.request import Request
from ownlm.errors import OwnlmError
from ownlm.opened.asked import make_request
from ownlm.server.answering import Answering, Asked, answering, placed
from ownlm.server.batches.kept import Batches
from ownlm.server.errors import ApiError, bad, of_engine
from ownlm.server.fields import SamplingBody, samplers
from ownlm.server.files import Files
from ownlm.server.guard.guard import Guard
from ownlm.server.guard.refusal import CONTENT_FILTER
from ownlm.server.hosted import Hosted, Served
from ownlm.server.hosted_embedder import HostedEmbedder
from ownlm.server.keys import Keys, seconds_to_tomorrow
from ownlm.server.limits import Limits
from ownlm.server.metrics import Metrics
from ownlm.server.principal import Principal
from ownlm.server.responses.going import Responses
from ownlm.server.shelf import Room, Shelf


@dataclass(kw_only=True)
class Service:
    hosted: Mapping[str, Hosted]
    limits: Limits = field(default_factory=Limits)
    # Models that embed and rank, and write nothing.
    embedders: Mapping[str, HostedEmbedder] = field(default_factory=dict)
    # Which of all of them are loaded is the shelf's to say, within this.
    room: Room = field(default_factory=Room)
    shelf: Shelf = field(init=False)
    metrics: Metrics = field(init=False)
    keys: Keys | None = None
    responses: Responses = field(default_factory=Responses)
    files: Files | None = None
    batches: Batches | None = None
    guard: Guard | None = None
    # What clients store goes after so long; None: it stays until they delete it.
    keep_seconds: float | None = 30 * 86_400.0
    draining: bool = False
    # Replicas answer at the same address, from the same --data folder, each with an engine of its own.
    beside: bool = False
    # Tokens that each key's running requests may still use.
    _reserved: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.hosted)
        self.shelf = Shelf(self.everything, self.room, self.metrics)
        if self.guard is not None:
            self.guard.counter = self.metrics.guard_decisions

    @asynccontextmanager
    async def answering(self, asked: Asked, principal: Principal) -> AsyncIterator[Answering]:
        """As answering.answering, counted."""
        metrics, name, began = self.metrics, asked.hosted.name, time.monotonic()
        answers: Answering | None = None
        most = asked.prompt_tokens + sum(one.sampling.n * one.sampling.max_tokens for one in asked.requests)
        if most > self.limits.request_tokens:
            raise bad(
                f"the request may take {most} tokens, {self.limits.request_tokens} is the most for one; ask for fewer "
                "answers, or for shorter ones by max_tokens",
                "max_tokens",
            )
        seconds = self.limits.request_seconds if asked.seconds is None else asked.seconds
        try:
            with self._reserving(name, principal, most):
                if self.guard is not None:
                    asked, refusal = await self.guard.read(asked, principal)
                    if refusal is not None:
                        metrics.success.labels(name, CONTENT_FILTER).inc(asked.texts)
                        yield Answering(asked=asked, answers=[], seconds=seconds, refusal=refusal)
                        return
                async with answering(asked, principal, self.shelf, seconds=seconds) as answers:
                    answers.guard, answers.principal = self.guard, principal
                    metrics.queued.labels(name).observe(answers.began - began)
                    yield answers
        finally:
            if answers is not None:
                self._note(answers, began)
                if self.keys is not None:
                    self.keys.count(principal, answers.prompt_tokens + answers.completion_tokens)

    @asynccontextmanager
    async def reading(
        self,
        model: Hosted | HostedEmbedder,
        principal: Principal,
        *,
        texts: int,
        tokens: int,
        background: bool = False,
    ) -> AsyncIterator[None]:
        """A place at a model for texts that are only read (embeddings, ranking): as answering, counted alike."""
        metrics, name, began, seconds = self.metrics, model.name, time.monotonic(), self.limits.request_seconds
        place = placed(model, principal, self.shelf, texts=texts, tokens=tokens, background=background, seconds=seconds)
        with self._reserving(name, principal, tokens):
            async with place:
                metrics.queued.labels(name).observe(time.monotonic() - began)
                try:
                    async with asyncio.timeout(None if background else began + seconds - time.monotonic()):
                        yield
                except TimeoutError:
                    message = "the work was not done in the time that a request has here, and was given up"
                    raise ApiError(status=504, message=message, code="deadline_exceeded") from None
                finally:
                    metrics.prompt_tokens.labels(name).inc(tokens)
                    if self.keys is not None:
                        self.keys.count(principal, tokens)
                metrics.asked_tokens.labels(name).observe(tokens)
                metrics.whole.labels(name).observe(time.monotonic() - began)
                metrics.success.labels(name, "stop").inc()

    @contextmanager
    def _reserving(self, name: str, principal: Principal, most: int) -> Iterator[None]:
        """Within a key's tokens; why a request was not taken, or that its client left, is noted."""
        reserved = 0
        try:
            self._refuse_beyond_quota(principal)
            self._reserved[principal.id] += (reserved := most)
            yield
        except ApiError as error:
            self.metrics.rejected.labels(name, error.code or error.type).inc()
            raise
        except (asyncio.CancelledError, GeneratorExit):
            self.metrics.cancelled.labels(name).inc()
            raise
        finally:
            self._reserved[principal.id] -= reserved

    def _refuse_beyond_quota(self, principal: Principal) -> None:
        left = principal.tokens
        if left is not None and left - self._reserved[principal.id] <= 0:
            message = f"the tokens of {principal.name!r} are used up for today (UTC), by what is under way perhaps"
            raise ApiError(status=429, message=message, code="insufficient_quota", retry_after=seconds_to_tomorrow())

    def _note(self, answers: Answering, began: float) -> None:
        metrics, name, drawn = self.metrics, answers.asked.hosted.name, answers.completion_tokens
        metrics.prompt_tokens.labels(name).inc(answers.prompt_tokens)
        metrics.generation_tokens.labels(name).inc(drawn)
        metrics.asked_tokens.labels(name).observe(answers.prompt_tokens)
        metrics.drawn_tokens.labels(name).observe(drawn)
        for reason, count in answers.finished.items():
            metrics.success.labels(name, reason).inc(count)
        if answers.first_piece is not None:
            now = time.monotonic()
            metrics.first_token.labels(name).observe(answers.first_piece - began)
            metrics.whole.labels(name).observe(now - began)
            metrics.prefill.labels(name).observe(answers.first_piece - answers.began)
            metrics.decode.labels(name).observe(now - answers.first_piece)
            between = metrics.between.labels(name)
            for gap in answers.gaps:
                between.observe(gap)

    def names(self) -> dict[str, Served]:
        """All that may be asked for, in the order in which it was given."""
        found: dict[str, Served] = {}
        for name, hosted in self.hosted.items():
            found[name] = Served(name=name, hosted=hosted)
            for called in hosted.adapters:
                found[f"{name}:{called}"] = Served(name=f"{name}:{called}", hosted=hosted, adapter=called)
        return found

    def find(self, name: str, principal: Principal) -> Served:
        """By its name; what a key may not use is as good as not there."""
        if name in self.embedders and principal.may_use(name):
            raise bad(f"{name[:200]!r} writes no text; ask it at {self.embedders[name].routes}", "model")
        served = self.names().get(name)
        if served is None or not principal.may_use(name):
            raise ApiError(
                status=404, message=f"there is no model {name[:200]!r} here", param="model", code="model_not_found"
            )
        if served.hosted.fatal:
            raise ApiError(status=503, message="the engine has failed too often and is not begun again")
        return served

    def find_reader(self, name: str, principal: Principal) -> Served | HostedEmbedder:
        """What embeds and ranks: an embedding model, or any that writes."""
        found = self.embedders.get(name)
        return found if found is not None and principal.may_use(name) else self.find(name, principal)

    def can_answer(self, name: str) -> bool:
        """Is the model there, and its engine well?"""
        served = self.names().get(name)
        return name in self.embedders if served is None else served.hosted.ready and not served.hosted.fatal

    def load(self, models: Sequence[Hosted | HostedEmbedder]) -> None:
        """At the start; where that fails all is ended."""
        try:
            self.shelf.load_now(models)
        except BaseException:
            for one in self.everything:
                one.close()
            if self.guard is not None:
                self.guard.close()
            raise

    @property
    def idle(self) -> bool:
        """Is nobody answered, and does nobody wait?"""
        return all(one.idle for one in self.everything)

    @property
    def everything(self) -> list[Hosted | HostedEmbedder]:
        return [*self.hosted.values(), *self.embedders.values()]

    @property
    def ready(self) -> bool:
        return not self.draining and all(hosted.ready for hosted in self.hosted.values())

    def request(
        self,
        served: Served,
        principal: Principal,
        body: SamplingBody,
        prompt: list[int],
        *,
        grammar: Grammar | None = None,
        **more: Any,
    ) -> Request:
        """The engine's request for a body, checked as far as that takes no time."""
        if len(prompt) >= served.hosted.context:
            raise ApiError(
                status=400,
                message=f"the prompt has {len(prompt)} tokens, the model's context is {served.hosted.context}; "
                "shorten it",
                param="messages",
                code="context_length_exceeded",
            )
        if self.guard is not None and self.guard.hides([served.name, served.hosted.name], principal):
            shown = "return_token_ids" if getattr(body, "return_token_ids", None) else "logprobs"
            if shown != "logprobs" or more.get("logprobs") is not None:
                raise bad(f"{shown} would show what this server's policy may hide, and is not supported here", shown)
        asked = samplers(body, served.hosted.files.suggested_sampling) | more
        try:
            made = make_request(prompt, {**asked, "priority": body.priority or 0})
        except OwnlmError as error:
            raise of_engine(error) from error
        # A beginning that another key's request left computed would tell what it asked.
        salt = f"{principal.id}:{body.cache_salt or ''}"
        return Request(
            prompt=made.prompt,
            sampling=made.sampling,
            grammar=grammar,
            priority=made.priority,
            cache_salt=salt,
        )


# Coroutines, for FastAPI would call a plain function in a thread: two hops for each request, and none in order.
async def service_of(http: HttpRequest) -> Service:
    found: Service = http.app.state.service
    return found


async def principal_of(http: HttpRequest) -> Principal:
    """Whom the gate let in."""
    found: Principal = http.scope["ownlm.principal"]
    return found
