"""What /openapi.json says besides the bodies, which their types describe: errors, streams, the form of files.

It is served to whoever may call it with a key, as any route; pages that show it are not.
"""

from typing import Any

_TEXT: dict[str, Any] = {"type": "string"}
_MAYBE: dict[str, Any] = {"type": ["string", "null"]}
_OPENAI: dict[str, Any] = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"message": _TEXT, "type": _TEXT, "param": _MAYBE, "code": _MAYBE},
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}
_ANTHROPIC: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"const": "error"},
        "error": {"type": "object", "properties": {"type": _TEXT, "message": _TEXT}, "required": ["type", "message"]},
        "request_id": _TEXT,
    },
    "required": ["type", "error", "request_id"],
}


def _told(description: str) -> dict[str, Any]:
    schema = {"anyOf": [_OPENAI, _ANTHROPIC]}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


Responses = dict[int | str, dict[str, Any]]

# Of every route; without them FastAPI would promise its own 422.
ERRORS: Responses = {
    "4XX": _told("what is wrong with the request, in OpenAI's shape, or in Anthropic's at its routes"),
    "5XX": _told("why it could not be answered, and a Retry-After where asking again helps"),
}
ANSWERED: Responses = {
    200: {"description": "the answer", "content": {"application/json": {"schema": {"type": "object"}}}}
}
PROBED: Responses = {
    status: {"description": what, "content": {"application/json": {"schema": {"type": "object"}}}}
    for status, what in ((200, "well"), (503, "not"))
}
STREAMED: Responses = {
    200: {
        "description": "the answer; with stream: true its events",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/event-stream": {"schema": {"type": "string"}},
        },
    }
}
METRICS: Responses = {200: {"description": "Prometheus' text", "content": {"text/plain": {"schema": _TEXT}}}}
CONTENT: Responses = {
    200: {
        "description": "the file",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
RERANKED: Responses = {
    200: {"description": "the results", "content": {"application/json": {"schema": {"type": ["object", "array"]}}}}
}
FILE_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"const": "batch"},
                        "expires_after[anchor]": {"const": "created_at"},
                        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
                    },
                    "required": ["file", "purpose"],
                    "additionalProperties": False,
                }
            }
        },
    }
}
