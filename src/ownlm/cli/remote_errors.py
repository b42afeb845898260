"""What is said when a server does not answer as it should: one line, with the fix.

In:  an HTTP status with headers and body, an error of the connection, an error in the middle of a stream.
Out: OwnlmError. What the server itself says is quoted, cut to a line.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ownlm.errors import OwnlmError

BROKEN_OFF = "{url} broke off in the middle of the answer; ask again, and see its log"
_CHECK_URL = "check --url (most such addresses end in /v1)"
_LONGEST = 300


class NoSuchRoute(OwnlmError):
    """The server answers, but not at this path."""


@contextmanager
def connection_told(url: str, begun: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Errors of the connection as one line; `begun`: did a part of the answer come?"""
    import httpx2

    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
        raise OwnlmError(_unreachable(url, error)) from error
    except httpx2.TimeoutException as error:
        raise OwnlmError(f"{url} has long said nothing; see whether it still runs, and ask again") from error
    except httpx2.HTTPError as error:
        if begun():
            raise OwnlmError(BROKEN_OFF.format(url=url)) from error
        raise OwnlmError(f"{url} ends the connection without an answer ({one_line(error)}); check --url") from error


def _unreachable(url: str, error: Exception) -> str:
    why = one_line(error)
    if "CERTIFICATE" in why:
        return f"the certificate of {url} is not trusted ({why}); SSL_CERT_FILE names a file with its authority"
    if "SSL" in why or "TLS" in why:
        return f"{url} does not speak TLS ({why}); write http:// instead of https://"
    why = re.sub(r"^\[Errno -?\d+\] |^All connection attempts failed$", "", why)
    reason = f" ({why})" if why else ""
    return f"nothing answers at {url}{reason}; is the server running there? (ownlm serve MODEL starts one)"


def refused(
    url: str, path: str, status: int, headers: Mapping[str, str], body: bytes, *, key: str | None
) -> OwnlmError:
    """An answer that is none."""
    said = _said(body)
    quoted = f" ({said})" if said else ""
    if 300 <= status < 400:
        return OwnlmError(f"{url} sends us on to {one_line(headers.get('location', 'nowhere'))}; give that as --url")
    if status == 401:
        fix = "check --key" if key else "give one with --key, or in the environment as OWNLM_API_KEY"
        return OwnlmError(f"{url} {'refuses the key' if key else 'asks for a key'}{quoted}; {fix}")
    if status == 403:
        return OwnlmError(f"{url} does not allow this{quoted}; ask whoever runs it for a key that may")
    if status in (404, 405, 501) and (not said or path == "/models"):
        return NoSuchRoute(f"{url} has no {path} ({said or status}); {_CHECK_URL}")
    if status == 404:
        return OwnlmError(f"{url} says: {said}; `ownlm chat --url {url}` without a name finds what it has")
    if status in (429, 503):
        wait = headers.get("retry-after", "")
        when = f"in {wait} s" if wait.isdecimal() else "a little later"
        return OwnlmError(f"{url} is {'busy' if status == 429 else 'not ready'}{quoted}; try again {when}")
    if status >= 500:
        return OwnlmError(f"{url} failed with status {status}{quoted}; its log says more")
    if "context" in said.lower() or "context" in _code(body):
        return OwnlmError(f"the conversation is too long for the model{quoted}; ask for less, or /clear it")
    return OwnlmError(f"{url} refuses the question with status {status}{quoted}; leave out the setting that it names")


def no_api(url: str, path: str, headers: Mapping[str, str]) -> OwnlmError:
    kind = headers.get("content-type", "").partition(";")[0].strip()
    what = f"answers {one_line(kind)}" if kind else "answers nothing"
    return OwnlmError(f"{url}{path} {what}, not as an OpenAI-compatible API does; {_CHECK_URL}")


def failed_in_stream(url: str, chunk: Mapping[str, Any]) -> OwnlmError:
    return OwnlmError(f"{url} failed in the middle of the answer ({_message(chunk) or 'it says no more'}); ask again")


def _said(body: bytes) -> str:
    """The message of an error in any of the usual shapes."""
    return _message(_loaded(body))


def _message(found: Any) -> str:
    """{"error": {"message": ...}} of OpenAI's, {"error": ...}, {"message": ...}, FastAPI's {"detail": ...}."""
    for name in ("error", "message", "detail"):
        inner = found.get(name) if isinstance(found, Mapping) else None
        text = inner.get("message") if isinstance(inner, Mapping) else inner
        if isinstance(text, str) and text:
            return one_line(text)
    return ""


def _code(body: bytes) -> str:
    found = _loaded(body)
    error = found.get("error") if isinstance(found, Mapping) else None
    return f"{error.get('code')} {error.get('type')}" if isinstance(error, Mapping) else ""


def _loaded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def one_line(words: object) -> str:
    return " ".join(str(words).split())[:_LONGEST].removesuffix(".")
