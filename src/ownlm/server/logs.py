"""One line a request, as JSON or to be read; with its id and its key's name, without a word of what was said."""

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any, Literal

# Of the request that is answered here; of a line of a batch, the batch's.
request_id: ContextVar[str] = ContextVar("request_id", default="-")
access = logging.getLogger("ownlm.server.access")
LogStyle = Literal["text", "json"]


def set_up(style: LogStyle, *, level: int = logging.INFO) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if style == "json" else _Text())
    for name in ("ownlm", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level if name == "ownlm" else logging.WARNING)


def note(facts: dict[str, Any]) -> None:
    """A request that has ended."""
    access.info(
        "%(method)s %(path)s %(status)s %(milliseconds)d ms %(key)s %(request_id)s", facts, extra={"facts": facts}
    )


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {record.getMessage()}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        # A path may hold anything: no control character reaches a terminal, and no line break begins a line.
        return "".join(letter if letter.isprintable() or letter == "\n" else f"\\x{ord(letter):02x}" for letter in line)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = getattr(record, "facts", None) or {"message": record.getMessage()}
        line = {"time": round(record.created, 3), "level": record.levelname.lower(), **facts}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
