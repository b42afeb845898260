"""How much a server takes at once; every bound has a default, and an option of `ownlm serve`."""

from dataclasses import dataclass

from ownlm.errors import OwnlmError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """body_bytes, header_bytes, messages: of one request. prompts: of one request to /v1/completions.
    request_tokens: that one request may use, its prompts and the longest that all its answers may become.
    inputs: texts of one request to /v1/embeddings or /v1/rerank.

    waiting_requests, waiting_tokens: of all requests that wait for the engine, their prompts' tokens; beyond them a
    request is refused with 429. request_seconds: after which an answer that is not whole is given up.
    drain_seconds: how long a server that was told to end lets answers finish. body_seconds: for a body to arrive.
    file_bytes: of one file at /v1/files. owner_bytes: of all that a key's files and batches hold.
    """

    body_bytes: int = 16 * 2**20
    header_bytes: int = 32 * 2**10
    body_seconds: float = 30.0
    file_bytes: int = 100 * 2**20
    owner_bytes: int = 2**30
    messages: int = 10_000
    prompts: int = 1024
    request_tokens: int = 262_144
    inputs: int = 2048
    waiting_requests: int = 256
    waiting_tokens: int = 500_000
    request_seconds: float = 600.0
    drain_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, bool) or not 0 < value < float("inf"):
                raise OwnlmError(f"{name} must be above 0, got {value!r}")
