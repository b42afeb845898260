"""One line of a batch's file: read, checked as its route checks a body, and answered at low priority.

    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {...}}
        │ parse                          what can be wrong is wrong before a batch begins
        ▼
    (custom_id, body) ──make──▶ checked, in the background ──whole──▶ the body of a response

Source: OpenAI's guide to its Batch API, for the shapes of lines.
"""

import json
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from pydantic import ValidationError

from ownlm.errors import OwnlmError
from ownlm.server.batches.kept import WINDOW
from ownlm.server.dialects import openai_chat, openai_completions, openai_embeddings, openai_responses
from ownlm.server.dialects.openai_chat import ChatBody
from ownlm.server.dialects.openai_completions import CompletionBody
from ownlm.server.dialects.openai_embeddings import EmbeddingsBody
from ownlm.server.errors import ApiError, bad, of_engine, of_field
from ownlm.server.json_values import is_text
from ownlm.server.principal import Principal
from ownlm.server.responses.body import ResponsesBody
from ownlm.server.service import Service

log = logging.getLogger("ownlm.server")

_FIELDS = {"custom_id": str, "method": str, "url": str, "body": dict}
_LONGEST_ID = 512

AnyBody = ChatBody | CompletionBody | ResponsesBody | EmbeddingsBody

Work = Coroutine[Any, Any, dict[str, Any]]
# A line that can be asked; called, it is begun.
Ready = Callable[[], Work]


def parse(raw: bytes, endpoint: str) -> tuple[str, AnyBody]:
    """A line's custom_id and body, by types alone; ApiError names the field that is wrong."""
    try:
        line = json.loads(raw, parse_constant=_no_constant)
    # A number too long, brackets too deep, bytes that are no UTF-8.
    except (ValueError, RecursionError):
        raise bad("the line is no JSON", code="invalid_json_line") from None
    if not isinstance(line, dict):
        raise bad("the line is no JSON object", code="invalid_json_line")
    for name, kind in _FIELDS.items():
        if name not in line:
            raise bad(f"{name} is missing", name, code="missing_required_parameter")
        if not isinstance(line[name], kind):
            raise bad(f"{name} must be {'an object' if kind is dict else 'a text'}", name, code="invalid_type")
    if unknown := next((name for name in line if name not in _FIELDS), None):
        raise bad(f"{unknown[:200]} is not supported", unknown[:200], code="unknown_parameter")
    if not 0 < len(line["custom_id"]) <= _LONGEST_ID:
        raise bad(f"custom_id must have 1 to {_LONGEST_ID} characters", "custom_id", code="invalid_custom_id")
    if not is_text(line["custom_id"]):
        raise bad("custom_id holds half a character", "custom_id", code="invalid_custom_id")
    if line["method"] != "POST":
        raise bad("method must be POST", "method", code="invalid_method")
    if line["url"] != endpoint:
        raise bad(f"url must be the batch's endpoint, {endpoint}", "url", code="invalid_url")
    try:
        body = ENDPOINTS[endpoint].body.model_validate(line["body"])
    except ValidationError as error:
        raise _in_body(of_field(error.errors()[0])) from None
    except ApiError as error:
        raise _in_body(error) from None
    if getattr(body, "stream", None):
        raise bad("stream is not supported in a batch", "body.stream", code="invalid_request")
    return line["custom_id"], body


def make(body: AnyBody, endpoint: str, service: Service, principal: Principal) -> Ready:
    """A parsed line for the engine; takes the time of tokenizing. ApiError as the route has it."""
    return ENDPOINTS[endpoint].make(body, service, principal)


def check(body: AnyBody, endpoint: str, service: Service, principal: Principal) -> None:
    """As `make`, for a file that is checked: what is wrong stands in the line's body."""
    try:
        make(body, endpoint, service, principal)
    except ApiError as error:
        raise _in_body(error) from None
    except OwnlmError as error:
        raise _in_body(of_engine(error)) from None
    except Exception:
        log.exception("a fault of ours in a line of a batch")
        raise bad("a fault of ours; the log has it", "body", code="server_error") from None


def _in_body(error: ApiError) -> ApiError:
    param = "body" if error.param in (None, "body") else f"body.{error.param}"
    return bad(error.message, param, code=error.code or "invalid_request")


def _chat(body: Any, service: Service, principal: Principal) -> Ready:
    served = service.find(body.model, principal)
    asked, wanted = openai_chat.read(body, served, service, principal)
    asked = asked.behind(seconds=WINDOW)
    head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": body.model}
    return lambda: openai_chat.whole(service, asked, principal, served, wanted, head)


def _completion(body: Any, service: Service, principal: Principal) -> Ready:
    served = service.find(body.model, principal)
    asked = openai_completions.read(body, served, service, principal).behind(seconds=WINDOW)
    head = {"id": f"cmpl-{secrets.token_hex(12)}", "object": "text_completion", "created": int(time.time())}
    head["model"] = body.model
    return lambda: openai_completions.whole(service, asked, principal, served, body, head)


def _response(body: Any, service: Service, principal: Principal) -> Ready:
    if body.background:
        raise bad("background is not supported in a batch, which is in the background itself", "background")
    question = openai_responses.read(body, service, principal)
    question = replace(question, asked=question.asked.behind(seconds=WINDOW))
    return lambda: openai_responses.whole(question, service, principal)


def _embeddings(body: Any, service: Service, principal: Principal) -> Ready:
    reader, prompts = openai_embeddings.read(body, service, principal)
    return lambda: openai_embeddings.whole(body, reader, prompts, service, principal, background=True)


@dataclass(frozen=True, kw_only=True)
class _Endpoint:
    body: type[AnyBody]
    make: Callable[[Any, Service, Principal], Ready]


ENDPOINTS = {
    "/v1/chat/completions": _Endpoint(body=ChatBody, make=_chat),
    "/v1/completions": _Endpoint(body=CompletionBody, make=_completion),
    "/v1/responses": _Endpoint(body=ResponsesBody, make=_response),
    "/v1/embeddings": _Endpoint(body=EmbeddingsBody, make=_embeddings),
}


def _no_constant(written: str) -> NoReturn:
    raise ValueError(f"{written} is no number in JSON")
