"""POST /v1/chat/completions: OpenAI's chat, whole and streamed.

    body ──check──▶ Asked ──answering──▶ bunches ──Writer (one a choice)──▶ deltas ──▶ chunks, or one completion

A stream's chunks share id, created and model: the role first, then content, then one with finish_reason, then usage if
it was asked for, then [DONE]. Fields come once and only where they say something: openai's client joins texts.
"""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from ownlm.engine import Piece
from ownlm.server import response_format, sse
from ownlm.server.answering import Answering, Asked, unless_gone
from ownlm.server.asking import ToolChoice, request_of
from ownlm.server.errors import bad
from ownlm.server.fields import SamplingBody, check_stream, structured
from ownlm.server.hosted import Served
from ownlm.server.messages import check_tools, prompt_ids
from ownlm.server.openapi import STREAMED
from ownlm.server.principal import Principal
from ownlm.server.said import Delta, SaidReader, logprob_entry
from ownlm.server.service import Service, principal_of, service_of
from ownlm.server.streamed import streamed

router = APIRouter()


class ChatBody(SamplingBody):
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_ids: bool | None = None
    explain_cache: bool | None = None
    # They change no answer.
    store: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What of the answer the body asks for, besides its tokens."""

    choice: ToolChoice
    logprobs: bool = False
    token_ids: bool = False
    usage: bool = False
    cache: bool | None = False


@router.post("/v1/chat/completions", response_model=None, responses=STREAMED)
async def chat_completions(
    body: ChatBody,
    http: HttpRequest,
    service: Annotated[Service, Depends(service_of)],
    principal: Annotated[Principal, Depends(principal_of)],
) -> Response:
    served = service.find(body.model, principal)
    asked, wanted = read(body, served, service, principal)
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": body.model}
    if body.stream:
        return await streamed(http, service, asked, principal, lambda answers: chunks(answers, served, wanted, head))
    return JSONResponse(await unless_gone(http, whole(service, asked, principal, served, wanted, head)))


def read(body: ChatBody, served: Served, service: Service, principal: Principal) -> tuple[Asked, Wanted]:
    """A body that has the right types into the engine's request; ApiError names the field that is wrong."""
    check_stream(body)
    if body.top_logprobs is not None and not body.logprobs:
        raise bad("top_logprobs needs logprobs: true", "top_logprobs")
    if body.store:
        raise bad("store is not supported in chat completions; /v1/responses keeps what it is asked to", "store")
    model = served.hosted.files
    choice = _choice(body)
    variables = dict(body.chat_template_kwargs or {})
    if body.reasoning_effort is not None:
        variables.setdefault("reasoning_effort", body.reasoning_effort)
    prompt = prompt_ids(
        model, body.messages, tools=choice.tools, variables=variables, most_messages=service.limits.messages
    )
    request = request_of(
        service,
        served,
        principal,
        body,
        prompt,
        choice=choice,
        forms={
            "response_format": response_format.grammar_of(body.response_format),
            "structured_outputs": structured(body.structured_outputs),
        },
        longest=body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens,
        param="max_tokens" if body.max_completion_tokens is None else "max_completion_tokens",
        **({"logprobs": body.top_logprobs or 0} if body.logprobs else {}),
    )
    wanted = Wanted(
        choice=choice,
        logprobs=bool(body.logprobs),
        token_ids=bool(body.return_token_ids),
        cache=body.explain_cache,
        usage=bool(body.stream_options and body.stream_options.include_usage),
    )
    return Asked(served=served, requests=[request]), wanted


def _choice(body: ChatBody) -> ToolChoice:
    asked = body.tool_choice
    if body.tools is None:
        if asked not in (None, "none", "auto"):
            raise bad("tool_choice needs tools", "tool_choice")
        return ToolChoice()
    if not body.tools:
        raise bad("tools must hold at least one function; leave it out for none", "tools")
    choice = ToolChoice(tools=check_tools(body.tools), parallel=body.parallel_tool_calls is not False)
    if asked in (None, "auto"):
        return choice
    if asked == "none":
        return ToolChoice()
    if asked == "required":
        return replace(choice, forced=True)
    function = asked.get("function") if isinstance(asked, dict) and asked.get("type") == "function" else None
    name = function.get("name") if isinstance(function, dict) else None
    if name is None:
        wanted = 'none, auto, required, or {"type": "function", "function": {"name": "..."}}'
        raise bad(f"tool_choice must be {wanted}", "tool_choice")
    if not choice.knows(name):
        raise bad(f"tool_choice names {str(name)[:64]!r}, which is none of tools", "tool_choice")
    return replace(choice, forced=True, named=name)


def readers(asked: Asked, served: Served, wanted: Wanted) -> list[SaidReader]:
    """One for each choice."""
    return [
        SaidReader(served.hosted.files, request.prompt, tools=bool(wanted.choice.tools), forced=wanted.choice.forced)
        for request in asked.requests
        for _ in range(request.sampling.n)
    ]


async def chunks(answers: Answering, served: Served, wanted: Wanted, head: dict[str, Any]) -> AsyncGenerator[bytes]:
    """The events of a stream."""
    tokenizer, extra = served.hosted.files.tokenizer, {"usage": None} if wanted.usage else {}
    said = readers(answers.asked, served, wanted)
    fixed = {**head, "object": "chat.completion.chunk"}

    def chunk(index: int, delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason, **more}
        return sse.event({**fixed, "choices": [choice], **extra})

    for index in range(len(said)):
        yield chunk(index, {"role": "assistant", "content": ""})
    async with aclosing(answers.bunches()) as bunches:
        async for index, pieces in bunches:
            deltas = [one for one in map(_delta, said[index].push(pieces)) if one]
            more: dict[str, Any] = {}
            if wanted.logprobs:
                more["logprobs"] = {"content": [logprob_entry(piece, tokenizer) for piece in pieces]}
            if wanted.token_ids:
                more["token_ids"] = [piece.token_id for piece in pieces]
            if more and not deltas:
                deltas = [{}]
            for place, delta in enumerate(deltas):
                # What belongs to the tokens comes once, with the first that they say.
                yield chunk(index, delta, **(more if place == 0 else {}))
            if (reason := pieces[-1].finish_reason) is not None:
                yield chunk(index, {}, "tool_calls" if said[index].calls and reason == "stop" else reason)
    if wanted.usage:
        yield sse.event({**fixed, "choices": [], "usage": usage(answers, said, wanted)})
    yield sse.DONE


async def whole(
    service: Service, asked: Asked, principal: Principal, served: Served, wanted: Wanted, head: dict[str, Any]
) -> dict[str, Any]:
    """A completion, when all its choices have ended."""
    said = readers(asked, served, wanted)
    pieces: list[list[Piece]] = [[] for _ in said]
    async with service.answering(asked, principal) as answers, aclosing(answers.bunches()) as bunches:
        async for index, bunch in bunches:
            pieces[index] += bunch
            said[index].take(bunch)
    choices = []
    for index, (reader, drawn) in enumerate(zip(said, pieces, strict=True)):
        message: dict[str, Any] = {"role": "assistant", "content": reader.content, "refusal": None}
        if reader.reasoning:
            message["reasoning_content"] = reader.reasoning
        if reader.calls:
            message["tool_calls"] = reader.tool_calls
            message["content"] = reader.content or None
        reason = drawn[-1].finish_reason
        choice: dict[str, Any] = {"index": index, "message": message, "logprobs": None}
        choice["finish_reason"] = "tool_calls" if reader.calls and reason == "stop" else reason
        if wanted.logprobs:
            entries = [logprob_entry(piece, served.hosted.files.tokenizer) for piece in drawn]
            choice["logprobs"] = {"content": entries, "refusal": None}
        if wanted.token_ids:
            choice["token_ids"] = [piece.token_id for piece in drawn]
        choices.append(choice)
    found = {**head, "object": "chat.completion", "choices": choices, "usage": usage(answers, said, wanted)}
    if wanted.token_ids:
        found["prompt_token_ids"] = asked.requests[0].prompt
    return found


def usage(answers: Answering, said: list[SaidReader], wanted: Wanted) -> dict[str, Any]:
    return {
        "prompt_tokens": answers.prompt_tokens,
        "completion_tokens": answers.completion_tokens,
        "total_tokens": answers.prompt_tokens + answers.completion_tokens,
        "prompt_tokens_details": answers.prompt_details(explained=wanted.cache),
        "completion_tokens_details": {"reasoning_tokens": sum(one.reasoning_tokens for one in said)},
    }


def _delta(one: Delta) -> dict[str, Any]:
    if one.reasoning:
        return {"reasoning_content": one.reasoning}
    if one.index is None:
        return {"content": one.text} if one.text else {}
    if one.name is not None:
        function = {"name": one.name, "arguments": ""}
        return {"tool_calls": [{"index": one.index, "id": one.id, "type": "function", "function": function}]}
    return {"tool_calls": [{"index": one.index, "function": {"arguments": one.arguments}}]}
