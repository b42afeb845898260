"""/v1/responses: OpenAI's second way to ask, with what was said before kept here, and answers in the background.

body ──(previous_response_id, item references: from the store)──▶ Question ─▶ foreground: whole, or streamed
                                                                        └───▶ background: a Run to come back to
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from ownlm.server import sse
from ownlm.server.answering import unless_gone
from ownlm.server.errors import ApiError, bad
from ownlm.server.openapi import ANSWERED, STREAMED
from ownlm.server.principal import Principal
from ownlm.server.responses.body import Question, ResponsesBody, TokensBody, prompt_of, question_of
from ownlm.server.responses.items import read_items, references
from ownlm.server.responses.kept import Kept
from ownlm.server.routes_tokens import only
from ownlm.server.service import Service, principal_of, service_of
from ownlm.server.streamed import streamed

router = APIRouter()

ServiceOf = Annotated[Service, Depends(service_of)]
PrincipalOf = Annotated[Principal, Depends(principal_of)]


@router.post("/v1/responses", response_model=None, responses=STREAMED)
async def respond(body: ResponsesBody, http: HttpRequest, service: ServiceOf, principal: PrincipalOf) -> Response:
    responses = service.responses
    # What was said before comes from the disk, and a long conversation takes a while to be written out.
    question = await asyncio.to_thread(read, body, service, principal)
    if question.background:
        run = await responses.background(question, service, principal)
        if not question.stream:
            return JSONResponse(run.response)
        return await _event_stream(http, run.follow(-1))
    if question.stream:
        return await streamed(
            http,
            service,
            question.asked,
            principal,
            lambda answers: responses.foreground(question, answers),
            failed=lambda error: question.writer.last(),
        )
    return JSONResponse(await unless_gone(http, whole(question, service, principal)))


def read(body: ResponsesBody, service: Service, principal: Principal) -> Question:
    """A body that has the right types into what is asked; ApiError names the field that is wrong."""
    served = service.find(body.model, principal)
    store = body.store is not False and service.responses.kept is not None
    if body.store and not store:
        raise bad("store: nothing is stored here; leave it out", "store")
    if body.background and not store:
        raise bad("background needs store: the answer is fetched later", "background")
    if body.background and service.beside:
        raise bad("background: several replicas answer here, and but one would know of it", "background")
    before, items = _items(body, service, principal)
    return question_of(body, before, items, store=store, served=served, service=service, principal=principal)


@router.post("/v1/responses/input_tokens")
async def input_tokens(body: TokensBody, service: ServiceOf, principal: PrincipalOf) -> dict[str, Any]:
    served = only(body.model, service, principal)

    def count() -> int:
        before, items = _items(body, service, principal)
        return len(prompt_of(body, [*before, *items], served, service))

    return {"object": "response.input_tokens", "input_tokens": await asyncio.to_thread(count)}


@router.get("/v1/responses/{response_id}", response_model=None, responses=STREAMED)
async def retrieve(
    response_id: str,
    http: HttpRequest,
    service: ServiceOf,
    principal: PrincipalOf,
    stream: bool = False,
    starting_after: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    if starting_after is not None and not stream:
        raise bad("starting_after is for streams; set stream to true, or leave it out", "starting_after")
    run = service.responses.running(principal.id, response_id)
    if not stream:
        return JSONResponse(run.response if run is not None else await _get(service, principal, response_id))
    after = -1 if starting_after is None else starting_after
    if run is not None and run.question.stream:
        return await _event_stream(http, run.follow(after))
    events = [] if run is not None else await asyncio.to_thread(_kept(service).events, principal.id, response_id)
    if not events:
        raise bad("only a response that was begun with background and stream can be streamed again", "stream")
    if after + 1 >= len(events):
        raise bad(f"starting_after: the last event of this response has number {len(events) - 1}", "starting_after")
    return await _event_stream(http, _these(events[after + 1 :]))


@router.get("/v1/responses/{response_id}/input_items")
async def input_items(
    response_id: str,
    service: ServiceOf,
    principal: PrincipalOf,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
    after: Annotated[str | None, Query(max_length=128)] = None,
) -> dict[str, Any]:
    items = await asyncio.to_thread(_kept(service).items, principal.id, response_id)
    if order == "desc":
        items.reverse()
    if after is not None:
        place = next((place for place, item in enumerate(items) if item["id"] == after), None)
        if place is None:
            raise bad("after names no item of this response", "after")
        items = items[place + 1 :]
    page = items[:limit]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return {"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": len(items) > limit}


@router.delete("/v1/responses/{response_id}")
async def delete(response_id: str, service: ServiceOf, principal: PrincipalOf) -> dict[str, Any]:
    if (run := service.responses.running(principal.id, response_id)) is not None:
        await run.stop()
    await asyncio.to_thread(_kept(service).delete, principal.id, response_id)
    return {"id": response_id, "object": "response", "deleted": True}


@router.post("/v1/responses/{response_id}/cancel", response_model=None, responses=ANSWERED)
async def cancel(response_id: str, service: ServiceOf, principal: PrincipalOf) -> Response:
    if (run := service.responses.running(principal.id, response_id)) is not None:
        await run.stop()
        return JSONResponse(run.response)
    found = await _get(service, principal, response_id)
    if not found["background"]:
        raise bad("only a response in the background can be cancelled; another ends when its client leaves")
    return JSONResponse(found)


async def whole(question: Question, service: Service, principal: Principal) -> dict[str, Any]:
    async with (
        service.answering(question.asked, principal) as answers,
        aclosing(service.responses.foreground(question, answers)) as events,
    ):
        async for _ in events:
            pass
    return question.writer.response


def _items(
    body: ResponsesBody | TokensBody, service: Service, principal: Principal
) -> tuple[Sequence[Mapping[str, Any]], list[dict[str, Any]]]:
    """Those of the responses before, and the body's own."""
    named, previous, kept = references(body.input), body.previous_response_id, service.responses.kept
    found: dict[str, dict[str, Any]] = {}
    before: list[dict[str, Any]] = []
    if named and kept is not None:
        found = kept.referred(principal.id, named)
    items = read_items(body.input, found)
    if previous is not None:
        if kept is None:
            raise _nowhere()
        # What is longer than any body cannot be a prompt either.
        most = service.limits.body_bytes
        before = kept.conversation(principal.id, previous, most_bytes=most)
    return before, items


async def _get(service: Service, principal: Principal, response_id: str) -> dict[str, Any]:
    return await asyncio.to_thread(_kept(service).get, principal.id, response_id)


def _kept(service: Service) -> Kept:
    if service.responses.kept is None:
        raise _nowhere()
    return service.responses.kept


def _nowhere() -> ApiError:
    return ApiError(status=404, message="there is no such response: nothing is stored here")


async def _event_stream(http: HttpRequest, events: AsyncGenerator[bytes]) -> sse.EventStream:
    return sse.EventStream(await unless_gone(http, anext(events)), events)


async def _these(events: Sequence[bytes]) -> AsyncGenerator[bytes]:
    for event in events:
        yield event
