"""/v1/files: what batches read and write, as OpenAI has it; each key sees its own."""

import asyncio
import shutil
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, Response

from ownlm.server.errors import ApiError, bad
from ownlm.server.files import MOST_FILES, Files, StoredFile
from ownlm.server.gate import FILES
from ownlm.server.openapi import CONTENT, FILE_FORM
from ownlm.server.principal import Principal
from ownlm.server.service import Service, principal_of, service_of

router = APIRouter()

Owner = Annotated[Principal, Depends(principal_of)]
_SECONDS = range(3600, 2_592_001)


def files_of(service: Annotated[Service, Depends(service_of)]) -> Files:
    if service.files is None:
        raise ApiError(status=501, message="this server keeps no files")
    return service.files


Kept = Annotated[Files, Depends(files_of)]
TheService = Annotated[Service, Depends(service_of)]


@router.post(FILES, openapi_extra=FILE_FORM)
async def upload(http: HttpRequest, service: TheService, files: Kept, principal: Owner) -> dict[str, Any]:
    """A form with `file` and `purpose`; expires_after[anchor] and expires_after[seconds] may say when it goes."""
    if not http.headers.get("content-type", "").startswith("multipart/form-data"):
        raise bad("a file is sent as multipart/form-data")
    # Before anything is read.
    await asyncio.to_thread(files.check_room, principal.id)
    try:
        async with http.form(max_files=1, max_fields=8, max_part_size=4096) as form:
            file, seconds = _read(form)
            if (file.size or 0) > files.limits.file_bytes:
                raise ApiError(status=413, message=f"the file is longer than {files.limits.file_bytes} bytes")
            stored = await asyncio.to_thread(
                files.add,
                principal.id,
                lambda to: shutil.copyfileobj(file.file, to),
                name=file.filename or "file",
                purpose="batch",
                seconds=seconds,
            )
    except ClientDisconnect:
        raise ApiError(status=408, message="the client has gone") from None
    except HTTPException:
        raise bad("the form cannot be read") from None
    return told(stored, service.keep_seconds)


@router.get(FILES)
async def list_files(
    service: TheService,
    files: Kept,
    principal: Owner,
    purpose: str | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MOST_FILES)] = MOST_FILES,
    order: Literal["asc", "desc"] = "desc",
) -> dict[str, Any]:
    found, more = await asyncio.to_thread(
        files.list, principal.id, purpose=purpose, after=after, limit=limit, up=order == "asc"
    )
    return page([told(one, service.keep_seconds) for one in found], more)


@router.get(FILES + "/{file_id}")
async def file(file_id: str, service: TheService, files: Kept, principal: Owner) -> dict[str, Any]:
    return told(await asyncio.to_thread(files.get, principal.id, file_id), service.keep_seconds)


@router.get(FILES + "/{file_id}/content", response_class=Response, responses=CONTENT)
async def content(file_id: str, files: Kept, principal: Owner) -> Response:
    stored = await asyncio.to_thread(files.get, principal.id, file_id)
    headers = {"x-content-type-options": "nosniff"}
    return FileResponse(files.path(stored.id), media_type="application/octet-stream", headers=headers)


@router.delete(FILES + "/{file_id}")
async def delete(file_id: str, files: Kept, principal: Owner) -> dict[str, Any]:
    await asyncio.to_thread(files.delete, principal.id, file_id)
    return {"id": file_id, "object": "file", "deleted": True}


def page(found: list[dict[str, Any]], more: bool) -> dict[str, Any]:
    edges = {"first_id": found[0]["id"], "last_id": found[-1]["id"]} if found else {"first_id": None, "last_id": None}
    return {"object": "list", "data": found, "has_more": more, **edges}


def told(stored: StoredFile, keep_seconds: float | None) -> dict[str, Any]:
    ends = [stored.expires, None if keep_seconds is None else stored.created + keep_seconds]
    return {
        "id": stored.id,
        "object": "file",
        "bytes": stored.bytes,
        "created_at": int(stored.created),
        "expires_at": min((int(end) for end in ends if end is not None), default=None),
        "filename": stored.name,
        "purpose": stored.purpose,
        "status": "processed",
        "status_details": None,
    }


def _read(form: FormData) -> tuple[UploadFile, int | None]:
    for name in form:
        if name not in ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]"):
            raise bad(f"{name[:200]!a} is not supported", name[:200])
    file, purpose = form.get("file"), form.get("purpose")
    if not isinstance(file, UploadFile):
        raise bad("file is missing: a part of the form with a filename", "file")
    if purpose != "batch":
        raise bad("purpose must be batch; files for other purposes are not kept here", "purpose")
    anchor, seconds = form.get("expires_after[anchor]"), form.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return file, None
    if anchor != "created_at":
        raise bad("expires_after.anchor must be created_at", "expires_after")
    if not isinstance(seconds, str) or not seconds.isascii() or not seconds[:9].isdecimal() or len(seconds) > 9:
        raise bad("expires_after.seconds must be a whole number", "expires_after")
    return file, checked_seconds(int(seconds), "expires_after")


def checked_seconds(seconds: int, param: str) -> int:
    if seconds not in _SECONDS:
        raise bad(f"{param}.seconds must be between {_SECONDS[0]} and {_SECONDS[-1]}", param)
    return seconds
