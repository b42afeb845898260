"""What a client is told when a request is not answered: one kind of error, written in its dialect.

    openai       {"error": {"message", "type", "param", "code"}}
    anthropic    {"type": "error", "error": {"type", "message"}, "request_id"}

Texts hold no path and no address of the server's: who asks may be anybody.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ownlm.engine import Sampling
from ownlm.engine.background import EngineStopped, QueueFull
from ownlm.errors import OwnlmError

# By status: OpenAI's type, Anthropic's type.
_TYPES = {
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("authentication_error", "authentication_error"),
    403: ("permission_error", "permission_error"),
    404: ("invalid_request_error", "not_found_error"),
    405: ("invalid_request_error", "invalid_request_error"),
    408: ("timeout_error", "api_error"),
    409: ("conflict_error", "invalid_request_error"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_error"),
    431: ("invalid_request_error", "invalid_request_error"),
    500: ("server_error", "api_error"),
    501: ("not_supported_error", "api_error"),
    503: ("unavailable_error", "overloaded_error"),
    504: ("timeout_error", "api_error"),
    507: ("unavailable_error", "overloaded_error"),
}
_LONGEST = 500
_ANY = ("invalid_request_error", "invalid_request_error")
QUEUE_FULL = "queue_full"
# A model that is not loaded: others are at work and leave no room for it, or it cannot be read.
NO_ROOM, LOAD_FAILED = "no_room_for_model", "model_not_loaded"


@dataclass(kw_only=True)
class ApiError(Exception):
    """`param` names the field that is wrong, `code` is OpenAI's word for some faults. `retry_after`: seconds."""

    status: int
    message: str
    param: str | None = None
    code: str | None = None
    retry_after: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # What is quoted of a client's may be anything.
        if len(self.message) > _LONGEST:
            self.message = self.message[:_LONGEST] + " ..."
        self.param = self.param and self.param[:200]

    def __str__(self) -> str:
        return self.message

    @property
    def type(self) -> str:
        return _TYPES.get(self.status, _ANY)[0]

    def openai(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def anthropic(self, request_id: str) -> dict[str, Any]:
        kind = "overloaded_error" if self.code == QUEUE_FULL else _TYPES.get(self.status, _ANY)[1]
        return {"type": "error", "error": {"type": kind, "message": self.message}, "request_id": request_id}

    def written_for(
        self, path: str, request_id: str, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status and body in the dialect that is spoken at `path`, or that the request's headers tell of."""
        if not path.startswith("/v1/messages") and "anthropic-version" not in (headers or {}):
            return self.status, self.openai()
        # There, 429 says that this key has asked too much, and 529 that everybody has.
        return 529 if self.code == QUEUE_FULL else self.status, self.anthropic(request_id)

    @property
    def sent_headers(self) -> dict[str, str]:
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, round(self.retry_after)))
        # openai's client sends whatever ends in 5xx, 408 and 409 twice more; what is wrong stays so.
        elif self.status >= 500 or self.status in (408, 409):
            headers["x-should-retry"] = "false"
        return headers


def bad(message: str, param: str | None = None, *, code: str | None = None) -> ApiError:
    """The client's mistake."""
    return ApiError(status=400, message=message, param=param, code=code)


_CONTEXT = re.compile(r"the prompt has \d+ tokens")


def of_engine(error: OwnlmError) -> ApiError:
    """What the engine refused or broke off."""
    message = str(error)
    if isinstance(error, QueueFull):
        return ApiError(status=429, message=message, retry_after=1, code=QUEUE_FULL)
    if isinstance(error, EngineStopped):
        # Its cause may name files: it stands in the log.
        return ApiError(status=503, message="the engine has stopped; it is begun anew, try again", retry_after=1)
    if _CONTEXT.match(message):
        return bad(message, code="context_length_exceeded")
    # What is wrong with a setting begins with its name.
    first = message.split(" ", 1)[0]
    return bad(message, first if first in Sampling.__dataclass_fields__ else None)


def of_field(found: Mapping[str, Any]) -> ApiError:
    """One of pydantic's findings in words, without the value: it may be long, or secret."""
    place = [str(part) for part in found["loc"] if part not in ("body", "query")]
    if found["type"] == "json_invalid":
        return ApiError(status=400, message="the body is no JSON")
    # A union's members have names of their own in the place.
    where = ".".join(part for part in place if "[" not in part and part not in ("str", "dict", "bool")) or "body"
    where = where[:200]
    if found["type"] == "extra_forbidden":
        message = f"{where} is not supported"
    elif found["type"] == "missing":
        message = f"{where} is missing"
    else:
        message = f"{where}: {found['msg']}"
    return ApiError(status=400, message=message, param=where)
