"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's chat, whole and streamed.

    body ──check──▶ Asked ──answering──▶ bunches ──SaidReader──▶ deltas ──BlockWriter──▶ events, or one message

A stream: message_start, each block's start, deltas and stop, message_delta with why it ended and the figures (which are
of the whole, and replace message_start's), message_stop. Every event has its `event:` line: the SDK skips others.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from ownlm.engine import Piece
from ownlm.engine.grammar import Grammar
from ownlm.server import sse
from ownlm.server.answering import Answering, Asked, unless_gone
from ownlm.server.asking import ToolChoice, request_of
from ownlm.server.dialects.anthropic_blocks import BlockWriter
from ownlm.server.dialects.anthropic_messages import functions, to_openai
from ownlm.server.errors import bad
from ownlm.server.fields import Body, Number, SamplingBody
from ownlm.server.guard.refusal import CONTENT_FILTER
from ownlm.server.hosted import Served
from ownlm.server.messages import prompt_ids
from ownlm.server.openapi import STREAMED
from ownlm.server.principal import Principal
from ownlm.server.reasoning import opens_thinking
from ownlm.server.response_format import for_schema
from ownlm.server.said import SaidReader
from ownlm.server.service import Service, principal_of, service_of
from ownlm.server.streamed import streamed

router = APIRouter()


class CacheControl(Body):
    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Metadata(Body):
    user_id: str | None = None


class Thinking(Body):
    """budget_tokens bounds nothing: max_tokens does, thoughts and words together."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: Annotated[int | None, Field(ge=1)] = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(Body):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Body):
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Choice(Body):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class CountBody(Body):
    """What a prompt is made of, and what else an unchanged client sends with it."""

    model: str
    messages: Annotated[list[dict[str, Any]], Field(min_length=1)]
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    # It changes no answer.
    cache_control: CacheControl | None = None


class MessagesBody(CountBody):
    max_tokens: int
    stop_sequences: list[Annotated[str, Field(min_length=1)]] | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: int | None = None
    stream: bool | None = None
    # They change no answer.
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None


@dataclass(frozen=True, kw_only=True)
class Talk:
    """One answer on its way: what was asked, and what it is called."""

    body: MessagesBody
    served: Served
    choice: ToolChoice
    id: str

    def reader(self, asked: Asked) -> SaidReader:
        choice = self.choice
        prompt = asked.requests[0].prompt
        return SaidReader(self.served.hosted.files, prompt, tools=bool(choice.tools), forced=choice.forced)

    def writer(self) -> BlockWriter:
        thinking = self.body.thinking
        return BlockWriter(hides_thoughts=thinking is not None and thinking.display == "omitted")

    def message(self, content: Sequence[Any], ended: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
        named = {"id": self.id, "type": "message", "role": "assistant", "model": self.body.model}
        return {**named, "content": content, **ended, "usage": usage}

    def ended(self, last: Piece, answers: Answering, reader: SaidReader) -> dict[str, Any]:
        """stop_reason and stop_sequence."""
        if last.stop is not None and last.stop in (self.body.stop_sequences or ()):
            return {"stop_reason": "stop_sequence", "stop_sequence": last.stop}
        if last.finish_reason == CONTENT_FILTER:
            return {"stop_reason": "refusal", "stop_sequence": None}
        if last.finish_reason == "length":
            whole = answers.completion_tokens >= self.body.max_tokens
            return {"stop_reason": "max_tokens" if whole else "model_context_window_exceeded", "stop_sequence": None}
        return {"stop_reason": "tool_use" if reader.calls else "end_turn", "stop_sequence": None}


@router.post("/v1/messages", response_model=None, responses=STREAMED)
async def messages(
    body: MessagesBody,
    http: HttpRequest,
    service: Annotated[Service, Depends(service_of)],
    principal: Annotated[Principal, Depends(principal_of)],
) -> Response:
    served = service.find(body.model, principal)
    # Of a long conversation this takes a while, and others have streams to be written.
    asked, choice = await asyncio.to_thread(read, body, served, service, principal)
    talk = Talk(body=body, served=served, choice=choice, id=f"msg_{secrets.token_hex(12)}")
    if body.stream:
        request_id = http.scope["ownlm.request_id"]
        return await streamed(
            http,
            service,
            asked,
            principal,
            lambda answers: events(answers, talk),
            failed=lambda error: sse.event(error.anthropic(request_id), "error"),
        )
    return JSONResponse(await unless_gone(http, whole(service, asked, principal, talk)))


@router.post("/v1/messages/count_tokens")
async def count_tokens(
    body: CountBody,
    service: Annotated[Service, Depends(service_of)],
    principal: Annotated[Principal, Depends(principal_of)],
) -> dict[str, int]:
    served = service.find(body.model, principal)
    prompt = await asyncio.to_thread(prompt_of, body, served, service, tool_choice(body))
    return {"input_tokens": len(prompt)}


def read(body: MessagesBody, served: Served, service: Service, principal: Principal) -> tuple[Asked, ToolChoice]:
    choice = tool_choice(body)
    given = {name: getattr(body, name) for name in ("model", "temperature", "top_p", "top_k")}
    request = request_of(
        service,
        served,
        principal,
        SamplingBody(**given, stop=body.stop_sequences or None),
        prompt_of(body, served, service, choice),
        choice=choice,
        forms={"output_config.format": _form(body)},
        longest=body.max_tokens,
        param="max_tokens",
    )
    return Asked(served=served, requests=[request]), choice


def prompt_of(body: CountBody, served: Served, service: Service, choice: ToolChoice) -> list[int]:
    """The conversation's ids. Where the assistant has the last word, the answer goes on from that."""
    model, variables = served.hosted.files, dict[str, Any]()
    if body.thinking is not None:
        variables["enable_thinking"] = body.thinking.type != "disabled"
    if body.output_config is not None and body.output_config.effort is not None:
        variables["reasoning_effort"] = body.output_config.effort
    plain = to_openai(body.messages, body.system)
    begun = plain.pop() if plain[-1]["role"] == "assistant" else None
    if begun is not None and (begun.keys() > {"role", "content"} or choice.forced or not plain):
        raise bad("messages must end with the user's, or with text alone of the assistant's to go on from", "messages")
    prompt = prompt_ids(model, plain, tools=choice.tools, variables=variables, most_messages=service.limits.messages)
    if begun is None:
        return prompt
    if opens_thinking(model, prompt):
        raise bad("this model thinks first: messages must end with the user's", "messages")
    return prompt + model.tokenizer.encode(begun["content"])


def tool_choice(body: CountBody) -> ToolChoice:
    asked = body.tool_choice
    if not body.tools:
        if asked is not None and asked.type in ("any", "tool"):
            raise bad(f"tool_choice of type {asked.type} needs tools", "tool_choice")
        return ToolChoice()
    if asked is not None and (asked.name is None) == (asked.type == "tool"):
        raise bad("tool_choice has a name where its type is tool, and only there", "tool_choice")
    choice = ToolChoice(tools=functions(body.tools), parallel=asked is None or not asked.disable_parallel_tool_use)
    if asked is None or asked.type == "auto":
        return choice
    if asked.type == "none":
        return ToolChoice()
    if asked.type == "tool" and not choice.knows(asked.name):
        raise bad(f"tool_choice names {str(asked.name)[:64]!r}, which is none of tools", "tool_choice")
    return replace(choice, forced=True, named=asked.name)


def _form(body: CountBody) -> Grammar | None:
    if body.output_config is None or body.output_config.format is None:
        return None
    return for_schema(body.output_config.format.schema_, "output_config.format.schema")


async def events(answers: Answering, talk: Talk) -> AsyncGenerator[bytes]:
    def event(kind: str, **what: Any) -> bytes:
        return sse.event({"type": kind, **what}, kind)

    reader, writer = talk.reader(answers.asked), talk.writer()
    open_end = {"stop_reason": None, "stop_sequence": None}
    yield event("message_start", message=talk.message([], open_end, usage(answers, reader)))
    async with aclosing(answers.bunches()) as bunches:
        async for _, pieces in bunches:
            for one in writer.push(reader.push(pieces)):
                yield sse.event(one, one["type"])
    for one in writer.finish():
        yield sse.event(one, one["type"])
    yield event("message_delta", delta=talk.ended(pieces[-1], answers, reader), usage=usage(answers, reader))
    yield event("message_stop")


async def whole(service: Service, asked: Asked, principal: Principal, talk: Talk) -> dict[str, Any]:
    reader, writer = talk.reader(asked), talk.writer()
    async with service.answering(asked, principal) as answers:
        async with aclosing(answers.bunches()) as bunches:
            async for _, pieces in bunches:
                for _ in writer.push(reader.push(pieces)):
                    pass
        for _ in writer.finish():
            pass
        return talk.message(writer.content, talk.ended(pieces[-1], answers, reader), usage(answers, reader))


def usage(answers: Answering, reader: SaidReader) -> dict[str, Any]:
    """input_tokens are those that were computed; what was found so counts apart."""
    return {
        "input_tokens": answers.prompt_tokens - answers.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": answers.cached_tokens,
        "output_tokens": answers.completion_tokens,
        "output_tokens_details": {"thinking_tokens": reader.reasoning_tokens},
    }
