"""The body of POST /v1/responses: checked, and made into the engine's request and the response that is begun.

body, items so far ──▶ messages ──chat template──▶ prompt ─▶ Asked
                 └───▶ {"id": "resp_...", "status": "in_progress", "output": [], ...} ─▶ Writer
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ownlm.server.answering import Asked
from ownlm.server.asking import ToolChoice, request_of
from ownlm.server.errors import ApiError, bad
from ownlm.server.fields import Body, SamplingBody, check_stream, structured
from ownlm.server.hosted import Served
from ownlm.server.messages import prompt_ids
from ownlm.server.principal import Principal
from ownlm.server.response_format import grammar_of, schema_grammar
from ownlm.server.responses.items import messages_of
from ownlm.server.responses.tools import Tools, flat, in_our_names, read_tools
from ownlm.server.responses.writer import Writer
from ownlm.server.said import SaidReader
from ownlm.server.service import Service

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
_LOGPROBS = "message.output_text.logprobs"
# The others are of items that never come here. Thoughts are never encrypted: they stand in their items.
_INCLUDED = (
    *(_LOGPROBS, "reasoning.encrypted_content", "file_search_call.results", "web_search_call.results"),
    *("web_search_call.action.sources", "message.input_image.image_url", "computer_call_output.output.image_url"),
    "code_interpreter_call.outputs",
)


class TextBody(Body):
    format: dict[str, Any] | None = None
    verbosity: str | None = None


class ReasoningBody(Body):
    effort: str | None = None
    summary: str | None = None


class TokensBody(Body):
    """Of /v1/responses/input_tokens: what decides the prompt."""

    model: str | None = None
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextBody | None = None
    reasoning: ReasoningBody | None = None
    truncation: str | None = None


class ResponsesBody(SamplingBody):
    input: str | list[dict[str, Any]]
    instructions: str | None = None
    previous_response_id: str | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextBody | None = None
    reasoning: ReasoningBody | None = None
    max_output_tokens: int | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    store: bool | None = None
    background: bool | None = None
    truncation: str | None = None
    # They change no answer.
    max_tool_calls: int | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    client_metadata: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Question:
    """A body that can be answered: by whom, what, and into which response."""

    owner: str
    asked: Asked
    writer: Writer
    items: Sequence[Mapping[str, Any]]
    store: bool
    background: bool
    stream: bool

    @property
    def id(self) -> str:
        found: str = self.writer.response["id"]
        return found


def question_of(
    body: ResponsesBody,
    before: Sequence[Mapping[str, Any]],
    items: Sequence[Mapping[str, Any]],
    *,
    store: bool,
    served: Served,
    service: Service,
    principal: Principal,
) -> Question:
    """`before`: the items of the responses that this one goes on from. ApiError names the field that is wrong."""
    _check(body)
    logprobs = _LOGPROBS in (body.include or ())
    if body.top_logprobs is not None and not logprobs:
        raise bad(f'top_logprobs needs include: ["{_LOGPROBS}"]', "top_logprobs")
    tools = _tools(body)
    try:
        request = request_of(
            service,
            served,
            principal,
            body,
            _prompt(body, [*before, *items], tools.choice, served, service),
            choice=tools.choice,
            forms={"text.format": _format(body.text), "structured_outputs": structured(body.structured_outputs)},
            longest=body.max_output_tokens,
            param="max_output_tokens",
            **({"logprobs": body.top_logprobs or 0} if logprobs else {}),
        )
    except ApiError as error:
        raise in_our_names(error) from error
    model, sampling = served.hosted.files, request.sampling
    reader = SaidReader(model, request.prompt, tools=bool(tools.choice.tools), forced=tools.choice.forced)
    background = bool(body.background)
    asked = Asked(served=served, requests=[request])
    response = _begun(body, tools, store=store) | {"temperature": sampling.temperature, "top_p": sampling.top_p}
    return Question(
        owner=principal.id,
        asked=asked.behind(seconds=None) if background else asked,
        writer=Writer(response, reader, tokenizer=model.tokenizer if logprobs else None),
        items=items,
        store=store,
        background=background,
        stream=bool(body.stream),
    )


def prompt_of(body: TokensBody, items: Sequence[Mapping[str, Any]], served: Served, service: Service) -> list[int]:
    """The ids that a response to `body` would begin with."""
    _check_prompt(body)
    _format(body.text)
    try:
        return _prompt(body, items, _tools(body).choice, served, service)
    except ApiError as error:
        raise in_our_names(error) from error


def _tools(body: ResponsesBody | TokensBody) -> Tools:
    return read_tools(body.tools, body.tool_choice, parallel=body.parallel_tool_calls)


def _prompt(
    body: ResponsesBody | TokensBody,
    items: Sequence[Mapping[str, Any]],
    choice: ToolChoice,
    served: Served,
    service: Service,
) -> list[int]:
    variables: dict[str, Any] = {}
    if body.reasoning is not None and body.reasoning.effort is not None:
        variables["reasoning_effort"] = body.reasoning.effort
        if body.reasoning.effort == "none":
            variables["enable_thinking"] = False
    messages = messages_of(body.instructions, items)
    if not messages:
        raise bad("input must hold at least one item", "input")
    return prompt_ids(
        served.hosted.files,
        messages,
        tools=choice.tools,
        variables=variables,
        most_messages=service.limits.messages,
    )


def _check(body: ResponsesBody) -> None:
    check_stream(body)
    if body.n not in (None, 1):
        raise bad("n is not supported: a response is one answer", "n")
    for name in body.include or ():
        if name not in _INCLUDED:
            raise bad(f"include holds {name[:80]!r}, which is not supported", "include")
    if len(body.metadata or {}) > 16:
        raise bad("metadata has at most 16 entries", "metadata")
    for key, value in (body.metadata or {}).items():
        if len(key) > 64 or len(value) > 512:
            raise bad("metadata has keys of at most 64 characters and values of at most 512", "metadata")
    _check_prompt(body)


def _check_prompt(body: ResponsesBody | TokensBody) -> None:
    if body.truncation not in (None, "disabled"):
        raise bad('truncation can be "disabled" only: nothing is left out of a conversation here', "truncation")
    if body.text is not None and body.text.verbosity not in (None, "medium"):
        raise bad("text.verbosity other than medium is not supported", "text.verbosity")
    if body.reasoning is not None:
        if body.reasoning.effort not in (None, *_EFFORTS):
            raise bad(f"reasoning.effort must be one of {', '.join(_EFFORTS)}", "reasoning.effort")
        if body.reasoning.summary not in (None, "auto"):
            raise bad(
                "reasoning.summary can be auto only: thoughts come whole, and are not summed up", "reasoning.summary"
            )


def _format(text: TextBody | None) -> Any:
    """As response_format, but for a schema that stands beside its type."""
    given = None if text is None else text.format
    if given is not None and given.get("type") == "json_schema":
        return schema_grammar(given, "text.format")
    return grammar_of(given, "text.format")


def _begun(body: ResponsesBody, tools: Tools, *, store: bool) -> dict[str, Any]:
    """A response with nothing in it yet; what it was asked with stands in it."""
    shape: dict[str, Any] = {"type": "text"} if body.text is None or body.text.format is None else body.text.format
    reasoning = body.reasoning or ReasoningBody()
    return {
        "id": f"resp_{secrets.token_hex(16)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "queued" if body.background else "in_progress",
        "background": bool(body.background),
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata or {},
        "model": body.model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": reasoning.effort, "summary": reasoning.summary},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": store,
        "text": {"format": shape, "verbosity": "medium"},
        "tool_choice": body.tool_choice or "auto",
        "tools": [flat(tool["function"]) for tool in tools.functions],
        "top_logprobs": body.top_logprobs or 0,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
    }
