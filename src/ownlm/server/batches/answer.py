"""What becomes of one line of a batch: an answer as the output file has it, or a reason to ask it again later.

{"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error": null}       the engine was asked
{"id", "custom_id", "response": null, "error": {"code", "message"}}                         it was not, in the end
"""

import asyncio
import json
import logging
import secrets
from dataclasses import dataclass, field
from typing import Any

from ownlm.errors import OwnlmError
from ownlm.server import logs
from ownlm.server.batches.file import read_line
from ownlm.server.batches.kept import Batch, Line, Usage
from ownlm.server.batches.lines import make, parse
from ownlm.server.errors import LOAD_FAILED, ApiError, of_engine
from ownlm.server.files import Files
from ownlm.server.principal import Principal
from ownlm.server.service import Service

log = logging.getLogger("ownlm.server")

# A line that was under way so often when the engine or the process died is perhaps the cause of it.
MOST_TRIES = 5
_SOON, _LATER = 1.0, 30.0


@dataclass(frozen=True, kw_only=True)
class Answered:
    text: str
    ok: bool
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, kw_only=True)
class Later:
    """Ask again in so many seconds. `blamed`: may the line be the cause? Then it has used up a try."""

    seconds: float
    blamed: bool = False


async def answer(
    service: Service, files: Files, batch: Batch, line: Line, principal: Principal | None
) -> Answered | Later:
    """`principal`: the batch's owner as the key is now; None: it holds no more, and the batch will be stopped."""
    if principal is None or not service.can_answer(line.model):
        # A model may be there again when the server is begun with it.
        return Later(seconds=_SOON)
    if line.tries >= MOST_TRIES:
        message = f"the engine ended {MOST_TRIES} times while this was answered; it is not asked again"
        return Answered(text=_response(line, 500, ApiError(status=500, message=message).openai()), ok=False)

    logs.request_id.set(batch.id)

    def read() -> Any:
        return make(parse(read_line(files, batch, line), batch.endpoint)[1], batch.endpoint, service, principal)

    try:
        ready = await asyncio.to_thread(read)
        body = await ready()
    except ApiError as error:
        if error.code == "insufficient_quota":
            return Later(seconds=min(_LATER, error.retry_after or _LATER))
        if error.code == LOAD_FAILED:
            # Its files may be there again; the line is not to blame.
            return Later(seconds=_LATER)
        if error.status == 503:
            return Later(seconds=_SOON, blamed=True)
        return Answered(text=_response(line, error.status, error.openai()), ok=False)
    except OwnlmError as error:
        refused = of_engine(error)
        return Answered(text=_response(line, refused.status, refused.openai()), ok=False)
    except Exception:
        log.exception("a fault of ours in line %d of %s", line.number, batch.id)
        fault = ApiError(status=500, message="a fault of ours; the log names it by this batch's id")
        return Answered(text=_response(line, 500, fault.openai()), ok=False)
    return Answered(text=_response(line, 200, body), ok=True, usage=_usage(body["usage"]))


def unanswered(batch: Batch, custom_id: str) -> str:
    """For a line that was not asked before its batch ended."""
    if batch.ends_as == "expired":
        message = "This request could not be executed before the completion window expired."
    else:
        message = "This request was not executed before the batch was cancelled."
    return _written(custom_id, None, {"code": f"batch_{batch.ends_as}", "message": message})


def _response(line: Line, status: int, body: dict[str, Any]) -> str:
    response = {"status_code": status, "request_id": f"req_{secrets.token_hex(12)}", "body": body}
    return _written(line.custom_id, response, None)


def _written(custom_id: str, response: dict[str, Any] | None, error: dict[str, Any] | None) -> str:
    # What is wrong in a line may be told in half characters; those are written as JSON's escapes.
    id = f"batch_req_{secrets.token_hex(12)}"
    line = {"id": id, "custom_id": custom_id, "response": response, "error": error}
    return json.dumps(line, ensure_ascii=response is None or response["status_code"] != 200, separators=(",", ":"))


def _usage(told: dict[str, Any]) -> Usage:
    """By the names of chat, completions and embeddings, or by those of responses."""
    read = "input" if "input_tokens" in told else "prompt"
    drawn = "output" if "output_tokens" in told else "completion"
    return Usage(
        prompt_tokens=told[f"{read}_tokens"],
        cached_tokens=told.get(f"{read}_tokens_details", {}).get("cached_tokens", 0),
        drawn_tokens=told.get(f"{drawn}_tokens", 0),
        reasoning_tokens=told.get(f"{drawn}_tokens_details", {}).get("reasoning_tokens", 0),
    )
