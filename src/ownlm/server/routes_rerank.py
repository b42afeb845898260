"""POST /v1/rerank and /rerank: documents by how well they answer a query, the best first.

    query, documents ──▶ a cross-encoder: its score of each pair
                         an embedding model, or one that writes: the cosine of the two vectors

In Jina's, Cohere's and vLLM's shape; who gives `texts` instead of documents gets text-embeddings-inference's list.
"""

import asyncio
import secrets
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from ownlm.server.answering import unless_gone
from ownlm.server.errors import bad
from ownlm.server.fields import Body
from ownlm.server.openapi import RERANKED
from ownlm.server.principal import Principal
from ownlm.server.reading import DecoderReader, EncoderReader, in_groups, reader_of
from ownlm.server.service import Service, principal_of, service_of
from ownlm.tokenizer.frame import Framed

router = APIRouter()


class Document(Body):
    text: str


class RerankBody(Body):
    """`truncate`: leave away the end of a document that is too long."""

    model: str | None = None
    query: str
    documents: list[str | Document] | None = None
    texts: list[str] | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    return_text: bool | None = None
    truncate: bool | None = None
    # It changes no answer.
    user: str | None = None


@router.post("/v1/rerank", response_model=None, responses=RERANKED)
@router.post("/rerank", response_model=None, responses=RERANKED)
async def rerank(
    body: RerankBody,
    http: HttpRequest,
    service: Annotated[Service, Depends(service_of)],
    principal: Annotated[Principal, Depends(principal_of)],
) -> Response:
    return JSONResponse(await unless_gone(http, whole(body, service, principal)))


async def whole(body: RerankBody, service: Service, principal: Principal) -> dict[str, Any] | list[dict[str, Any]]:
    documents = _documents(body, service.limits.inputs)
    model = body.model if body.model is not None else _only(service, principal)
    reader = reader_of(service, model, principal)
    prompts = await asyncio.to_thread(_prompts, body, documents, reader)
    if isinstance(reader, EncoderReader) and not reader.embeds:
        scores = await in_groups(service, reader, principal, prompts, reader.scores)
    else:
        query_E, *vectors = await in_groups(service, reader, principal, prompts, reader.vectors)
        scores = [float(vector_E @ query_E) for vector_E in vectors]
    # The first of equals first.
    best = sorted(range(len(scores)), key=lambda place: -scores[place])[: body.top_n]
    tokens = sum(len(prompt.ids) for prompt in prompts)
    if body.texts is not None:
        return [
            {"index": place, "score": scores[place]} | ({"text": documents[place]} if body.return_text else {})
            for place in best
        ]
    results = [
        {"index": place, "relevance_score": scores[place]}
        | ({"document": {"text": documents[place]}} if body.return_documents else {})
        for place in best
    ]
    return {
        "id": f"rerank-{secrets.token_hex(12)}",
        "object": "list",
        "model": model,
        "results": results,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _documents(body: RerankBody, most: int) -> list[str]:
    name = "documents" if body.texts is None else "texts"
    if body.documents is not None and body.texts is not None:
        raise bad("give documents or texts, not both", "texts")
    given: Sequence[str | Document] | None = body.documents if body.texts is None else body.texts
    if given is None:
        raise bad("documents is missing", "documents")
    if not given:
        raise bad(f"{name} is empty; give at least one", name)
    if len(given) > most:
        raise bad(f"{name} holds {len(given)} texts, at most {most} are taken at once", name)
    if body.top_n is not None and body.top_n < 1:
        raise bad(f"top_n must be at least 1, got {body.top_n}"[:200], "top_n")
    if not body.query:
        raise bad("query is empty", "query")
    texts = [one if isinstance(one, str) else one.text for one in given]
    if not all(texts):
        raise bad(f"{name}[{texts.index('')}] is empty", f"{name}[{texts.index('')}]")
    return texts


def _prompts(body: RerankBody, documents: Sequence[str], reader: DecoderReader | EncoderReader) -> list[Framed]:
    """The pairs, for a cross-encoder; else the query and the documents."""
    cut, name = bool(body.truncate), "documents" if body.texts is None else "texts"
    if isinstance(reader, EncoderReader) and not reader.embeds:
        query = reader.encode(body.query)
        return [reader.pair(query, one, f"{name}[{place}]", cut=cut) for place, one in enumerate(documents)]
    return [
        reader.prompt(body.query, "query", cut=cut),
        *(reader.prompt(one, f"{name}[{place}]", cut=cut) for place, one in enumerate(documents)),
    ]


def _only(service: Service, principal: Principal) -> str:
    """The one model that can be meant: text-embeddings-inference's clients name none."""
    for group in (service.embedders, service.hosted):
        names = [name for name in group if principal.may_use(name)]
        if len(names) == 1:
            return names[0]
        if names:
            break
    raise bad("model is missing; name one of the models that are served", "model")
