"""POST /v1/embeddings: texts into vectors of unit length, in OpenAI's shape.

    input ──read──▶ prompts ──in_groups──▶ vectors ──▶ numbers, or base64 of little-endian float32

What a vector is depends on the model, and its capabilities at /v1/models say it: an embedding model's own, or the mean
of a writing model's last hidden states.
"""

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch.nn.functional as F
from fastapi import APIRouter, Depends
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from torch import Tensor

from ownlm.server.answering import unless_gone
from ownlm.server.errors import bad
from ownlm.server.fields import Body
from ownlm.server.openapi import ANSWERED
from ownlm.server.principal import Principal
from ownlm.server.reading import AnyReader, Reader, in_groups, reader_of
from ownlm.server.service import Service, principal_of, service_of
from ownlm.tokenizer.frame import Framed

router = APIRouter()


class EmbeddingsBody(Body):
    """`truncate`: leave away the end of a text that is too long, as text-embeddings-inference has it."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    truncate: bool | None = None
    # It changes no answer.
    user: str | None = None


@router.post("/v1/embeddings", response_model=None, responses=ANSWERED)
async def embeddings(
    body: EmbeddingsBody,
    http: HttpRequest,
    service: Annotated[Service, Depends(service_of)],
    principal: Annotated[Principal, Depends(principal_of)],
) -> Response:
    # Of many texts this takes a while.
    reader, prompts = await asyncio.to_thread(read, body, service, principal)
    found = await unless_gone(http, whole(body, reader, prompts, service, principal))
    # So does the writing of thousands of vectors.
    written = await asyncio.to_thread(json.dumps, found, separators=(",", ":"))
    return Response(written, media_type="application/json")


def read(body: EmbeddingsBody, service: Service, principal: Principal) -> tuple[AnyReader, list[Framed]]:
    """A body that has the right types; ApiError names the field that is wrong."""
    reader = reader_of(service, body.model, principal)
    if not reader.embeds:
        raise bad("this model ranks documents and makes no embeddings; ask it at /v1/rerank", "model")
    if body.dimensions is not None and body.dimensions not in reader.dimensions:
        allowed = f"it can be cut to {_listed(reader.dimensions)}" if reader.dimensions else "it was not made to be cut"
        raise bad(f"dimensions {body.dimensions} is not supported by this model: {allowed}", "dimensions")
    return reader, _prompts(body, reader, service.limits.inputs)


async def whole(
    body: EmbeddingsBody,
    reader: AnyReader,
    prompts: Sequence[Framed],
    service: Service,
    principal: Principal,
    *,
    background: bool = False,
) -> dict[str, Any]:
    """The answer's content."""
    vectors = await in_groups(service, reader, principal, prompts, reader.vectors, background=background)
    tokens = sum(len(prompt.ids) for prompt in prompts)
    return {
        "object": "list",
        "data": await asyncio.to_thread(_entries, vectors, body),
        "model": body.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _prompts(body: EmbeddingsBody, reader: Reader, most: int) -> list[Framed]:
    cut = bool(body.truncate)
    if isinstance(body.input, str):
        return [reader.prompt(body.input, "input", cut=cut)]
    if not body.input:
        raise bad("input is empty; give at least one text", "input")
    if isinstance(body.input[0], int):
        return [reader.prompt(body.input, "input", cut=cut)]
    if len(body.input) > most:
        raise bad(f"input holds {len(body.input)} texts, at most {most} are taken at once", "input")
    return [reader.prompt(one, f"input[{place}]", cut=cut) for place, one in enumerate(body.input)]  # type: ignore[arg-type]


def _entries(vectors: Sequence[Tensor], body: EmbeddingsBody) -> list[dict[str, Any]]:
    entries = []
    for index, vector_E in enumerate(vectors):
        if body.dimensions is not None:
            vector_E = F.normalize(vector_E[: body.dimensions], dim=0)
        embedding: Any = vector_E.tolist()
        if body.encoding_format == "base64":
            embedding = base64.b64encode(vector_E.numpy().astype("<f4").tobytes()).decode()
        entries.append({"object": "embedding", "index": index, "embedding": embedding})
    return entries


def _listed(dimensions: Sequence[int]) -> str:
    if isinstance(dimensions, range):
        return f"{dimensions[0]} to {dimensions[-1]}"
    return ", ".join(map(str, dimensions))
