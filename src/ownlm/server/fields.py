"""The fields that several dialects share, checked once; what a body says into keywords of the engine's request.

A field that is not listed is refused by its name: nothing that a client asks for is left out in silence. The few that
change no answer (user, metadata ...) are taken and said to do nothing in docs/server.md.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ownlm.engine.grammar import Grammar
from ownlm.errors import OwnlmError
from ownlm.opened.asked import make_grammar
from ownlm.server.errors import bad
from ownlm.server.json_values import check_values

# JSON knows neither infinity nor NaN, Python's reader does.
Number = Annotated[float, Field(allow_inf_nan=False)]


class Body(BaseModel):
    """Strict: "1" is no number, true is none either; an unknown field is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _check_values(cls, given: Any) -> Any:
        check_values(given)
        return given


class StructuredOutputs(Body):
    """vLLM's name for what an answer must look like; one of them."""

    json_: dict[str, Any] | bool | str | None = Field(None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None


class StreamOptions(Body):
    include_usage: bool | None = None
    # OpenAI pads chunks to hide their lengths; ours are as they are.
    include_obfuscation: bool | None = None


class SamplingBody(Body):
    """Every sampler of the engine, by the names that vLLM and llama.cpp's server have for it."""

    model: str
    n: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    temperature: Number | None = None
    top_p: Number | None = None
    top_k: int | None = None
    min_p: Number | None = None
    typical_p: Number | None = None
    xtc_probability: Number | None = None
    xtc_threshold: Number | None = None
    mirostat: int | None = None
    mirostat_tau: Number | None = None
    mirostat_eta: Number | None = None
    logit_bias: dict[str, Number] | None = None
    repetition_penalty: Number | None = None
    frequency_penalty: Number | None = None
    presence_penalty: Number | None = None
    dry_multiplier: Number | None = None
    dry_base: Number | None = None
    dry_allowed_length: int | None = None
    min_tokens: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    priority: int | None = None
    cache_salt: str | None = None
    structured_outputs: StructuredOutputs | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # They change no answer.
    user: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None


_SAMPLERS = (
    *("n", "seed", "stop", "temperature", "top_p", "top_k", "min_p", "typical_p", "xtc_probability", "xtc_threshold"),
    *("mirostat", "mirostat_tau", "mirostat_eta", "logit_bias", "repetition_penalty", "frequency_penalty"),
    *("presence_penalty", "dry_multiplier", "dry_base", "dry_allowed_length", "min_tokens", "ignore_eos"),
)


def samplers(body: SamplingBody, suggested: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of the engine's Sampling that the body names; what it leaves out is as the model's makers suggest."""
    asked = {"temperature": 1.0, **suggested}
    asked |= {name: value for name in _SAMPLERS if (value := getattr(body, name)) is not None}
    if body.stop_token_ids:
        asked["stop_ids"] = body.stop_token_ids
    if asked.get("top_k") == -1:
        asked["top_k"] = 0  # vLLM's word for off
    return asked


def most_tokens(asked: int | None, room: int, param: str) -> int:
    """How long an answer may be: as asked, and never past the context."""
    if asked is not None and asked < 1:
        raise bad(f"{param} must be at least 1, got {asked}", param)
    return max(1, room if asked is None else min(asked, room))


def structured(asked: StructuredOutputs | None) -> Grammar | None:
    if asked is None:
        return None
    given: dict[str, Any] = {"regex": asked.regex, "choices": asked.choice}
    if asked.json_ is not None:
        given["json_schema"] = asked.json_
    if asked.grammar is not None:
        # GBNF names its rules with "::=", Lark with ":".
        kind: Any = "gbnf" if "::=" in asked.grammar else "lark"
        given["grammar"] = Grammar(kind=kind, text=asked.grammar)
    elif asked.json_object:
        given["grammar"] = Grammar(kind="json_object")
    try:
        return make_grammar(given)
    except OwnlmError as error:
        raise bad(str(error), "structured_outputs") from error


def check_stream(body: SamplingBody) -> None:
    if body.stream_options is not None and not body.stream:
        raise bad("stream_options is for streams; set stream to true, or leave it out", "stream_options")
