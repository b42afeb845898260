"""POST /v1/completions: texts or ids to continue, whole and streamed; with echo, how likely each prompt token was.

lm-eval's local-completions scores by it: token ids, echo, logprobs 1, max_tokens 1, and one entry for every id of the
prompt and for exactly one drawn token, also where that is the end. Prompts are never tokenized anew.
"""

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from ownlm.engine import Piece, PromptToken
from ownlm.engine.request import Top
from ownlm.server import sse
from ownlm.server.answering import Answering, Asked, unless_gone
from ownlm.server.dialects.llamacpp_infill import marks_of
from ownlm.server.errors import bad
from ownlm.server.fields import SamplingBody, check_stream, most_tokens, structured
from ownlm.server.hosted import Served
from ownlm.server.openapi import STREAMED
from ownlm.server.principal import Principal
from ownlm.server.said import LEAST
from ownlm.server.service import Service, principal_of, service_of
from ownlm.server.streamed import streamed
from ownlm.tokenizer import Tokenizer, fill_prompt

router = APIRouter()

# OpenAI's own default.
_TOKENS = 16


class CompletionBody(SamplingBody):
    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int | None = None
    echo: bool | None = None
    logprobs: int | None = None
    suffix: str | None = None
    best_of: int | None = None
    return_token_ids: bool | None = None
    explain_cache: bool | None = None


@router.post("/v1/completions", response_model=None, responses=STREAMED)
async def completions(
    body: CompletionBody,
    http: HttpRequest,
    service: Annotated[Service, Depends(service_of)],
    principal: Annotated[Principal, Depends(principal_of)],
) -> Response:
    served = service.find(body.model, principal)
    asked = read(body, served, service, principal)
    head = {"id": f"cmpl-{secrets.token_hex(12)}", "object": "text_completion", "created": int(time.time())}
    head["model"] = body.model
    if body.stream:
        return await streamed(
            http, service, asked, principal, lambda answers: chunks(answers, served.hosted.files.tokenizer, body, head)
        )
    return JSONResponse(await unless_gone(http, whole(service, asked, principal, served, body, head)))


def read(body: CompletionBody, served: Served, service: Service, principal: Principal) -> Asked:
    check_stream(body)
    n = body.n or 1
    if body.best_of is not None and body.best_of != n:
        raise bad("best_of other than n is not supported", "best_of")
    tokenizer = served.hosted.files.tokenizer
    more: dict[str, Any] = {}
    if body.suffix is None:
        prompts = _prompts(body.prompt, tokenizer)
    else:
        if not isinstance(body.prompt, str) or body.echo:
            raise bad("suffix goes with one prompt of text, and without echo", "suffix")
        marks = marks_of(served, "suffix")
        prompts = [fill_prompt(tokenizer, marks, body.prompt, body.suffix)]
        more["stop_ids"] = [*marks.ends, *(body.stop_token_ids or ())]
    if len(prompts) * n > service.limits.prompts:
        raise bad(f"prompt and n ask for {len(prompts) * n} answers, at most {service.limits.prompts}", "prompt")
    if body.max_tokens is not None and body.max_tokens < (0 if body.echo else 1):
        raise bad("max_tokens must be at least 1, or 0 with echo", "max_tokens")
    requests = []
    grammar = structured(body.structured_outputs)
    for prompt in prompts:
        longest = _TOKENS if body.max_tokens is None else max(1, body.max_tokens)
        requests.append(
            service.request(
                served,
                principal,
                body,
                prompt,
                grammar=grammar,
                max_tokens=most_tokens(longest, served.hosted.context - len(prompt), "max_tokens"),
                logprobs=body.logprobs,
                prompt_logprobs=bool(body.echo) and body.logprobs is not None,
                **more,
            )
        )
    return Asked(served=served, requests=requests)


def _prompts(given: str | list[str] | list[int] | list[list[int]], tokenizer: Tokenizer) -> list[list[int]]:
    if isinstance(given, str):
        return [tokenizer.prompt_ids(given)]
    if not given:
        raise bad("prompt must hold at least one text or token id", "prompt")
    if isinstance(given[0], int):
        return [given]
    return [tokenizer.prompt_ids(one) if isinstance(one, str) else one for one in given]


class Writer:
    """One choice's pieces as OpenAI's completion has them; with echo the prompt first."""

    def __init__(
        self, tokenizer: Tokenizer, prompt: list[int], body: CompletionBody, *, scored: list[PromptToken] | None = None
    ) -> None:
        self._tokenizer, self._wants = tokenizer, body.logprobs
        self._begun = len(tokenizer.decode(prompt)) if body.echo else 0
        self._drops = body.max_tokens == 0

    def entry(self, pieces: list[Piece]) -> dict[str, Any]:
        """text, logprobs and ids of some pieces."""
        pieces = [] if self._drops else pieces
        found: dict[str, Any] = {"text": "".join(piece.text for piece in pieces)}
        found["logprobs"] = None
        if self._wants is not None:
            found["logprobs"] = {
                "tokens": [_spelled(piece.token_id, self._tokenizer) for piece in pieces],
                "token_logprobs": [max(piece.logprob, LEAST) for piece in pieces],
                "top_logprobs": [_top(piece.token_id, piece.logprob, piece.top, self._tokenizer) for piece in pieces],
                "text_offset": [self._begun + piece.offset for piece in pieces],
            }
        return found

    def prompt_entry(self, prompt: list[int], scored: list[PromptToken] | None) -> dict[str, Any]:
        """The prompt, given back; its first token follows from nothing, and has no probability."""
        found: dict[str, Any] = {"text": self._tokenizer.decode(prompt), "logprobs": None}
        if self._wants is not None:
            offsets, stream, place = [], self._tokenizer.stream(), 0
            for id in prompt:
                offsets.append(place)
                place += len(stream.push(id))
            rest = scored or []
            found["logprobs"] = {
                "tokens": [_spelled(id, self._tokenizer) for id in prompt],
                "token_logprobs": [None, *(max(one.logprob, LEAST) for one in rest)],
                "top_logprobs": [None, *(_top(one.token_id, one.logprob, one.top, self._tokenizer) for one in rest)],
                "text_offset": offsets,
            }
        return found


async def chunks(
    answers: Answering, tokenizer: Tokenizer, body: CompletionBody, head: dict[str, Any]
) -> AsyncGenerator[bytes]:
    wants_usage = bool(body.stream_options and body.stream_options.include_usage)
    extra = {"usage": None} if wants_usage else {}
    owners = _owners(answers.asked)
    writers = [Writer(tokenizer, answers.asked.requests[owner].prompt, body) for owner in owners]
    begun = [False] * len(writers)

    def chunk(index: int, entry: dict[str, Any], reason: str | None) -> bytes:
        return sse.event({**head, "choices": [{"index": index, **entry, "finish_reason": reason}], **extra})

    async with aclosing(answers.bunches()) as bunches:
        async for index, pieces in bunches:
            if not begun[index]:
                begun[index] = True
                if body.echo and answers.refusal is None:
                    yield chunk(index, _prompt_entry(answers, owners[index], writers[index]), None)
            yield chunk(index, writers[index].entry(pieces) | _ids(body, pieces), pieces[-1].finish_reason)
    if wants_usage:
        yield sse.event({**head, "choices": [], "usage": usage(answers, body)})
    yield sse.DONE


async def whole(
    service: Service, asked: Asked, principal: Principal, served: Served, body: CompletionBody, head: dict[str, Any]
) -> dict[str, Any]:
    tokenizer, owners = served.hosted.files.tokenizer, _owners(asked)
    pieces: list[list[Piece]] = [[] for _ in owners]
    async with service.answering(asked, principal) as answers:
        async with aclosing(answers.bunches()) as bunches:
            async for index, bunch in bunches:
                pieces[index] += bunch
        choices = []
        for index, (owner, drawn) in enumerate(zip(owners, pieces, strict=True)):
            # The prompt as it was read: a policy may have masked some of it.
            writer = Writer(tokenizer, answers.asked.requests[owner].prompt, body)
            entry = writer.entry(drawn)
            if body.echo and answers.refusal is None:
                entry = _joined(_prompt_entry(answers, owner, writer), entry)
            choices.append({"index": index, **entry, "finish_reason": drawn[-1].finish_reason} | _ids(body, drawn))
        return {**head, "choices": choices, "usage": usage(answers, body)}


def usage(answers: Answering, body: CompletionBody) -> dict[str, Any]:
    drawn = 0 if body.max_tokens == 0 else answers.completion_tokens
    return {
        "prompt_tokens": answers.prompt_tokens,
        "completion_tokens": drawn,
        "total_tokens": answers.prompt_tokens + drawn,
        "prompt_tokens_details": answers.prompt_details(explained=body.explain_cache),
    }


def _owners(asked: Asked) -> list[int]:
    """Of each choice, its prompt's place."""
    return [place for place, request in enumerate(asked.requests) for _ in range(request.sampling.n)]


def _prompt_entry(answers: Answering, owner: int, writer: Writer) -> dict[str, Any]:
    ticket = answers.answers[owner].ticket
    return writer.prompt_entry(answers.asked.requests[owner].prompt, None if ticket is None else ticket.prompt_tokens)


def _joined(first: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    logprobs = first["logprobs"] and {
        name: values + then["logprobs"][name] for name, values in first["logprobs"].items()
    }
    return {"text": first["text"] + then["text"], "logprobs": logprobs}


def _ids(body: CompletionBody, pieces: list[Piece]) -> dict[str, Any]:
    return {"token_ids": [piece.token_id for piece in pieces]} if body.return_token_ids else {}


def _spelled(id: int, tokenizer: Tokenizer) -> str:
    """A token's text; where it is no whole text, its bytes by number, so that no two ids look alike."""
    spelled = tokenizer.token_bytes(id)
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)


def _top(id: int, logprob: float, top: Top, tokenizer: Tokenizer) -> dict[str, float]:
    """By text; the token itself is always there, with the very number that stands in token_logprobs."""
    found: dict[str, float] = {}
    for other, chance in sorted((*top, (id, logprob)), key=lambda one: one[1]):
        # Of two ids with one text the likelier stays.
        found[_spelled(other, tokenizer)] = max(chance, LEAST)
    found.setdefault(_spelled(id, tokenizer), max(logprob, LEAST))
    return dict(reversed(found.items()))
