"""POST /infill: what belongs between a prefix and a suffix, in the shape of llama.cpp's server, which editors ask.

    input_extra, input_prefix + prompt, input_suffix ──fill_prompt──▶ Asked ──▶ {"content", "stop", "timings", ...}

Source: llama.cpp's tools/server/README.md; llama.vim and llama.vscode, for what they send and read.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from ownlm.engine import Piece
from ownlm.server import sse
from ownlm.server.answering import Answering, Asked, unless_gone
from ownlm.server.errors import bad
from ownlm.server.fields import Body, Number, SamplingBody, check_stream, most_tokens, structured
from ownlm.server.hosted import Served
from ownlm.server.principal import Principal
from ownlm.server.routes_tokens import only
from ownlm.server.service import Service, principal_of, service_of
from ownlm.server.streamed import streamed
from ownlm.tokenizer import FillMarks, fill_marks, fill_prompt

router = APIRouter()

# Where the body does not say; an editor wants a few lines.
_TOKENS = 128


class ExtraFile(Body):
    filename: str = "tmp"
    text: str


class InfillBody(SamplingBody):
    model: str = ""  # the one there is
    input_prefix: str = ""
    input_suffix: str = ""
    prompt: str = ""
    input_extra: Annotated[list[ExtraFile] | None, Field(max_length=1024)] = None
    n_predict: int | None = None
    repeat_penalty: Number | None = None
    response_fields: list[str] | None = None
    # They change no answer: how to compute, in which order to cut, and when to have enough.
    cache_prompt: bool | None = None
    id_slot: int | None = None
    samplers: list[str] | None = None
    n_indent: int | None = None
    t_max_prompt_ms: int | None = None
    t_max_predict_ms: int | None = None


@router.post("/infill", response_model=None)
async def infill(
    body: InfillBody,
    http: HttpRequest,
    service: Annotated[Service, Depends(service_of)],
    principal: Annotated[Principal, Depends(principal_of)],
) -> Response:
    served = only(body.model or None, service, principal)
    asked = read(body, served, service, principal)
    if body.stream:
        return await streamed(http, service, asked, principal, lambda answers: chunks(answers, served, body))
    return JSONResponse(await unless_gone(http, whole(service, asked, principal, served, body)))


def read(body: InfillBody, served: Served, service: Service, principal: Principal) -> Asked:
    check_stream(body)
    if body.n not in (None, 1):
        raise bad("n is not supported here: one gap is filled once", "n")
    longest = _TOKENS if body.n_predict in (None, -1) else body.n_predict
    assert longest is not None
    if longest < 0:
        raise bad("n_predict must be at least 0, or -1 for the default", "n_predict")
    # Nothing drawn is for clients that only want their files computed before they ask.
    longest = min(max(1, longest), served.hosted.context // 2)
    files = [(one.filename, one.text) for one in body.input_extra or ()]
    marks, room = marks_of(served, "model"), served.hosted.context - longest
    tokenizer = served.hosted.files.tokenizer
    prompt = fill_prompt(tokenizer, marks, body.input_prefix + body.prompt, body.input_suffix, files=files, room=room)
    more: dict[str, Any] = {} if body.repeat_penalty is None else {"repetition_penalty": body.repeat_penalty}
    request = service.request(
        served,
        principal,
        body,
        prompt,
        grammar=structured(body.structured_outputs),
        max_tokens=most_tokens(longest, served.hosted.context - len(prompt), "n_predict"),
        stop_ids=[*marks.ends, *(body.stop_token_ids or ())],
        **more,
    )
    return Asked(served=served, requests=[request])


def marks_of(served: Served, param: str) -> FillMarks:
    marks = fill_marks(served.hosted.files.tokenizer)
    if marks is None:
        raise bad("this model was not made to fill in: it knows no marks of a prefix and a suffix", param)
    return marks


async def chunks(answers: Answering, served: Served, body: InfillBody) -> AsyncGenerator[bytes]:
    async with aclosing(answers.bunches()) as bunches:
        async for _, pieces in bunches:
            yield sse.event({"index": 0, "content": _text(pieces, body), "tokens": [], "stop": False})
    yield sse.event(_last("", pieces[-1], answers, served, body))


async def whole(
    service: Service, asked: Asked, principal: Principal, served: Served, body: InfillBody
) -> dict[str, Any]:
    drawn: list[Piece] = []
    async with service.answering(asked, principal) as answers:
        async with aclosing(answers.bunches()) as bunches:
            async for _, pieces in bunches:
                drawn += pieces
        return _last(_text(drawn, body), drawn[-1], answers, served, body)


def _last(content: str, piece: Piece, answers: Answering, served: Served, body: InfillBody) -> dict[str, Any]:
    """The answer, or the end of a stream: with why it ended, and with figures."""
    request = answers.asked.requests[0]
    # llama.cpp's server knows no filter, and no word for an end by one.
    ended = "limit" if piece.finish_reason == "length" else "eos" if piece.stop is None else "word"
    drawn = 0 if body.n_predict == 0 else answers.completion_tokens
    found = {
        "index": 0,
        "content": content,
        "tokens": [],
        "id_slot": 0,
        "stop": True,
        "model": served.name,
        "tokens_predicted": drawn,
        "tokens_evaluated": answers.prompt_tokens,
        "tokens_cached": answers.prompt_tokens + drawn,
        "generation_settings": {"n_ctx": served.hosted.context, "n_predict": request.sampling.max_tokens},
        "stop_type": ended,
        "stopping_word": piece.stop or "",
        "truncated": False,
        "timings": _timings(answers, drawn),
    }
    if body.response_fields is None:
        return found
    return {name: value for name in body.response_fields if (value := _at(found, name)) is not None}


def _timings(answers: Answering, drawn: int) -> dict[str, Any]:
    first = answers.first_piece or time.monotonic()
    read, read_ms = answers.prompt_tokens - answers.cached_tokens, 1000 * (first - answers.began)
    drawn_ms = 1000 * (time.monotonic() - first)
    return {
        "cache_n": answers.cached_tokens,
        "prompt_n": read,
        "prompt_ms": read_ms,
        "prompt_per_second": _a_second(read, read_ms),
        "predicted_n": drawn,
        "predicted_ms": drawn_ms,
        "predicted_per_second": _a_second(drawn, drawn_ms),
    }


def _a_second(count: int, milliseconds: float) -> float:
    return 1000 * count / milliseconds if milliseconds else 0.0


def _at(found: Any, path: str) -> Any:
    """timings/prompt_n is the one within the other."""
    for name in path.split("/"):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _text(pieces: list[Piece], body: InfillBody) -> str:
    return "" if body.n_predict == 0 else "".join(piece.text for piece in pieces)
