"""/v1/batches: a file of requests, answered when nobody else asks, as OpenAI has it; each key sees its own."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from ownlm.server.batches.kept import Batch, Batches
from ownlm.server.batches.lines import ENDPOINTS
from ownlm.server.dialects.openai_files import checked_seconds, page
from ownlm.server.errors import ApiError, bad
from ownlm.server.fields import Body
from ownlm.server.principal import Principal
from ownlm.server.service import Service, principal_of, service_of

router = APIRouter()

_STATES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


class ExpiresAfter(Body):
    anchor: Literal["created_at"]
    seconds: int


class BatchBody(Body):
    input_file_id: str
    endpoint: str
    completion_window: Literal["24h"]
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
        ]
        | None
    ) = None
    output_expires_after: ExpiresAfter | None = None


def batches_of(service: Annotated[Service, Depends(service_of)]) -> Batches:
    if service.batches is None:
        raise ApiError(status=501, message="this server takes no batches")
    return service.batches


Kept = Annotated[Batches, Depends(batches_of)]
Owner = Annotated[Principal, Depends(principal_of)]


@router.post("/v1/batches")
async def create(
    body: BatchBody, batches: Kept, principal: Owner, service: Annotated[Service, Depends(service_of)]
) -> dict[str, Any]:
    if body.endpoint not in ENDPOINTS:
        raise bad(f"endpoint must be one of {', '.join(ENDPOINTS)}", "endpoint")
    # Who may not ask there may not have it asked.
    if not principal.may_call(body.endpoint):
        raise ApiError(status=403, message=f"the key {principal.name!r} may not use {body.endpoint}", param="endpoint")
    # Of replicas one works on them, whichever was asked.
    if not batches.worked and not service.beside:
        message = "another server works on the batches of this --data folder; ask that one"
        raise ApiError(status=503, message=message, retry_after=5)
    after = body.output_expires_after
    made = await asyncio.to_thread(
        batches.create,
        principal.id,
        input_file=body.input_file_id,
        endpoint=body.endpoint,
        metadata=body.metadata,
        output_seconds=None if after is None else checked_seconds(after.seconds, "output_expires_after"),
    )
    batches.news.set()
    return told(made)


@router.get("/v1/batches")
async def list_batches(
    batches: Kept,
    principal: Owner,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> dict[str, Any]:
    found, more = await asyncio.to_thread(batches.list, principal.id, after=after, limit=limit)
    return page([told(one) for one in found], more)


@router.get("/v1/batches/{batch_id}")
async def batch(batch_id: str, batches: Kept, principal: Owner) -> dict[str, Any]:
    return told(await asyncio.to_thread(batches.get, principal.id, batch_id))


@router.post("/v1/batches/{batch_id}/cancel")
async def cancel(batch_id: str, batches: Kept, principal: Owner) -> dict[str, Any]:
    found = await asyncio.to_thread(batches.cancel, principal.id, batch_id)
    batches.news.set()
    return told(found)


def told(batch: Batch) -> dict[str, Any]:
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": None if batch.errors is None else {"object": "list", "data": batch.errors},
        "input_file_id": batch.input_file,
        "completion_window": "24h",
        "status": batch.status,
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        "created_at": int(batch.created),
        "expires_at": int(batch.expires),
        **{f"{state}_at": int(batch.times[state]) if state in batch.times else None for state in _STATES},
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "usage": {
            "input_tokens": batch.prompt_tokens,
            "input_tokens_details": {"cached_tokens": batch.cached_tokens},
            "output_tokens": batch.drawn_tokens,
            "output_tokens_details": {"reasoning_tokens": batch.reasoning_tokens},
            "total_tokens": batch.prompt_tokens + batch.drawn_tokens,
        },
        "metadata": batch.metadata,
    }
