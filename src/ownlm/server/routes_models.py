"""What is served, and whether it is well: /v1/models, /live, /ready, /health, /metrics."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse

from ownlm.server.hosted import Served
from ownlm.server.hosted_embedder import HostedEmbedder
from ownlm.server.messages import knows_tools
from ownlm.server.metrics import CONTENT_TYPE
from ownlm.server.openapi import METRICS, PROBED
from ownlm.server.principal import Principal
from ownlm.server.reasoning import thinks
from ownlm.server.service import Service, principal_of, service_of
from ownlm.tokenizer import fill_marks

router = APIRouter()

COSINE = "the cosine of the embeddings of query and document"


@router.get("/v1/models")
async def models(
    http: HttpRequest,
    service: Annotated[Service, Depends(service_of)],
    principal: Annotated[Principal, Depends(principal_of)],
) -> dict[str, Any]:
    served: dict[str, Served | HostedEmbedder] = {**service.names(), **service.embedders}
    found = [described(one, http) for name, one in served.items() if principal.may_use(name)]
    if _for_anthropic(http):
        ids = [one["id"] for one in found]
        edges = {"first_id": ids[0], "last_id": ids[-1]} if ids else {"first_id": None, "last_id": None}
        return {"data": found, "has_more": False, **edges}
    return {"object": "list", "data": found}


@router.get("/v1/models/{name:path}")
async def model(
    name: str,
    http: HttpRequest,
    service: Annotated[Service, Depends(service_of)],
    principal: Annotated[Principal, Depends(principal_of)],
) -> dict[str, Any]:
    return described(service.find_reader(name, principal), http)


@router.get("/live", responses=PROBED)
async def live(service: Annotated[Service, Depends(service_of)]) -> Response:
    fatal = any(hosted.fatal for hosted in service.hosted.values())
    return JSONResponse({"status": "failed" if fatal else "live"}, 503 if fatal else 200)


@router.get("/ready", responses=PROBED)
@router.get("/health", responses=PROBED)
async def ready(service: Annotated[Service, Depends(service_of)]) -> Response:
    status = "ending" if service.draining else "ready" if service.ready else "not ready"
    return JSONResponse({"status": status}, 200 if service.ready else 503)


@router.get("/metrics", response_class=Response, responses=METRICS)
async def metrics(service: Annotated[Service, Depends(service_of)]) -> Response:
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def described(served: Served | HostedEmbedder, http: HttpRequest) -> dict[str, Any]:
    """A model in the shape that the client knows, with what it can do."""
    hosted = served if isinstance(served, HostedEmbedder) else served.hosted
    if _for_anthropic(http):
        from datetime import UTC, datetime

        created = datetime.fromtimestamp(hosted.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "type": "model",
            "id": served.name,
            "display_name": served.name,
            "created_at": created,
            "lifecycle": "active",
            "max_input_tokens": hosted.context,
            "max_tokens": hosted.context,
        }
    return {
        "id": served.name,
        "object": "model",
        "created": hosted.created,
        "owned_by": "ownlm",
        "root": hosted.name,
        "parent": hosted.name if isinstance(served, Served) and served.adapter is not None else None,
        "max_model_len": hosted.context,
        "capabilities": capabilities(served) if isinstance(served, Served) else reading_capabilities(served),
    }


def capabilities(served: Served) -> dict[str, Any]:
    """What may be asked of it; what is not listed is refused by name."""
    hosted, model = served.hosted, served.hosted.files
    chat = model.template is not None
    return {
        "loaded": hosted.loaded,
        "chat": chat,
        "completions": True,
        "tools": chat and ("template" if knows_tools(model) else "told in a system message"),
        "reasoning": thinks(model),
        "structured_outputs": ["json_schema", "json_object", "regex", "choice", "grammar"],
        "infill": fill_marks(model.tokenizer) is not None,
        "logprobs": True,
        "echo_logprobs": True,
        "embeddings": "the mean of the last hidden states, of unit length; the model was not made for them",
        "dimensions": hosted.config.hidden_size,
        "rerank": COSINE,
        "content": ["text"],
        "context": hosted.context,
        "arithmetic": hosted.model.arithmetic if hosted.loaded else None,
        "memory_bytes": hosted.bytes or None,
    }


def reading_capabilities(hosted: HostedEmbedder) -> dict[str, Any]:
    embedder = hosted.embedder
    more: dict[str, Any] = {"embeddings": False, "rerank": "a cross-encoder's score of query and document"}
    if embedder.embeds:
        more = {
            "embeddings": f"made for them; {embedder.pooling} pooling, of unit length",
            "dimensions": embedder.size,
            "cut_to": [*embedder.bert.config.dimensions],
            "rerank": COSINE,
        }
    return {
        "loaded": hosted.loaded,
        "chat": False,
        "completions": False,
        **more,
        "content": ["text"],
        "context": hosted.context,
        "arithmetic": "float32",
        "memory_bytes": hosted.bytes or None,
    }


def _for_anthropic(http: HttpRequest) -> bool:
    return "anthropic-version" in http.headers
