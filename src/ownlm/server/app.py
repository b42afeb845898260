"""The application: routes behind the gate, and every error in the client's dialect.

gate ──▶ FastAPI ──▶ dialects/*, routes_* ──▶ Service ──▶ Hosted ──▶ engine
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from ownlm.errors import OwnlmError
from ownlm.server import routes_models, routes_rerank, routes_tokens
from ownlm.server.batches.run import BatchRunner
from ownlm.server.dialects import (
    anthropic,
    llamacpp_infill,
    openai_batches,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_files,
    openai_responses,
)
from ownlm.server.errors import ApiError, of_engine, of_field
from ownlm.server.gate import LOOPBACK, Gate
from ownlm.server.openapi import ERRORS
from ownlm.server.service import Service

log = logging.getLogger("ownlm.server")

ROUTERS = (
    openai_chat.router,
    openai_completions.router,
    openai_responses.router,
    anthropic.router,
    llamacpp_infill.router,
    openai_embeddings.router,
    openai_files.router,
    openai_batches.router,
    routes_rerank.router,
    routes_tokens.router,
    routes_models.router,
)
# How often the engines are looked after.
_PULSE = 0.5


def make_app(
    service: Service,
    *,
    hosts: frozenset[str] | None = LOOPBACK,
    origins: frozenset[str] = frozenset(),
) -> ASGIApp:
    """The whole server as one ASGI application; `service` is closed when it ends. `hosts`, `origins`: see the gate."""
    app = FastAPI(
        title="ownlm",
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=ERRORS,
    )
    app.state.service = service
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(OwnlmError, _own_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _fault)
    return Gate(
        app,
        limits=service.limits,
        keys=service.keys,
        hosts=hosts,
        origins=origins,
        draining=lambda: service.draining,
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service

    async def pulse() -> None:
        while True:
            await asyncio.sleep(_PULSE)
            for hosted in service.hosted.values():
                hosted.revive()
            await service.shelf.unload_idle()

    await service.responses.open()
    works = [asyncio.create_task(pulse())]
    if service.files is not None and service.batches is not None:
        runner = BatchRunner(service, service.files, service.batches)
        runner.hold()
        works.append(asyncio.create_task(runner.run()))
    try:
        yield
    finally:
        for work in works:
            work.cancel()
        for work in works:
            with suppress(asyncio.CancelledError):
                await work
        await service.responses.close()
        await service.shelf.close()
        if service.guard is not None:
            await asyncio.to_thread(service.guard.close)
        for one in service.everything:
            await asyncio.to_thread(one.close)


def _told(http: HttpRequest, error: ApiError) -> Response:
    status, written = error.written_for(http.url.path, http.scope.get("ownlm.request_id", ""), http.headers)
    return JSONResponse(written, status, headers=error.sent_headers)


async def _api_error(http: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _told(http, error)


async def _own_error(http: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, OwnlmError)
    return _told(http, of_engine(error))


async def _invalid(http: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _told(http, of_field(error.errors()[0]))


async def _http_error(http: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ApiError):
        return _told(http, error.__cause__)
    messages = {
        404: "there is no such route",
        405: "this route is asked otherwise",
        400: "the body cannot be read as JSON",
    }
    message = messages.get(error.status_code, str(error.detail))
    return _told(http, ApiError(status=error.status_code, message=message, headers=dict(error.headers or {})))


async def _fault(http: HttpRequest, error: Exception) -> Response:
    log.error("a fault of ours in %s %s", http.method, http.url.path, exc_info=error)
    return _told(http, ApiError(status=500, message="a fault of ours; the log names it by this request's id"))
