"""The tool and the form that OpenAI's clients are tried with."""

from typing import Any, Literal

from pydantic import BaseModel

# A function; chat completions have it within "function", responses beside its type.
FUNCTION: dict[str, Any] = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Rome", "Bern"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Verdict(BaseModel):
    city: Literal["Rome", "Bern"]
    sure: bool
