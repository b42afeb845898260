"""A batch's files: the one that comes in is checked whole before a line of it is answered; two go out.

input file ──check_input──▶ lines, or what is wrong with which line
answers in the store ──write_outputs──▶ output file (answered), error file (not answered), the batch's last state
"""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from ownlm.server.batches.kept import Batch, Batches, Line
from ownlm.server.batches.lines import check, parse
from ownlm.server.errors import ApiError, bad
from ownlm.server.files import Files
from ownlm.server.principal import Principal
from ownlm.server.service import Service

MOST_LINES = 50_000
# As many mistakes are told; a file that is wrong throughout is wrong in one way.
MOST_ERRORS = 100
_MARK = b"\xef\xbb\xbf"  # with which some programs begin UTF-8


class Stopped(Exception):
    """The check was called off."""


def check_input(
    files: Files, batch: Batch, service: Service, principal: Principal, *, stopped: Callable[[], bool]
) -> tuple[list[Line], list[dict[str, Any]]]:
    """The file's lines, and what is wrong in OpenAI's words; takes as long as tokenizing the file."""
    longest = service.limits.body_bytes
    lines: list[Line] = []
    errors: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    with files.path(batch.input_file).open("rb") as file:
        start = number = 0
        while raw := file.readline(longest + 1):
            if stopped():
                raise Stopped
            begin, start, number = start, start + len(raw), number + 1
            if number == 1 and raw.startswith(_MARK):
                raw, begin = raw[len(_MARK) :], len(_MARK)
            if not raw.strip():
                continue
            try:
                if len(raw) > longest:
                    raise bad(f"the line is longer than {longest} bytes", code="line_too_long")
                if len(lines) >= MOST_LINES:
                    raise bad(f"the file has more than {MOST_LINES} lines", code="too_many_lines")
                custom_id, body = parse(raw, batch.endpoint)
                if custom_id in seen:
                    message = f"custom_id stands in line {seen[custom_id]} already"
                    raise bad(message, "custom_id", code="duplicate_custom_id")
                seen[custom_id] = number
                check(body, batch.endpoint, service, principal)
            except ApiError as error:
                errors.append({**told(error), "line": number})
                if error.code in ("line_too_long", "too_many_lines") or len(errors) >= MOST_ERRORS:
                    break
                continue
            lines.append(Line(number=number, start=begin, size=len(raw), custom_id=custom_id, model=body.model))
    if not lines and not errors:
        errors.append(told(bad("the file holds no line", "input_file_id", code="empty_file")))
    return lines, errors


def told(error: ApiError) -> dict[str, Any]:
    """As it stands in a batch's errors.data."""
    return {
        "code": error.code,
        "message": _text(error.message),
        "param": error.param and _text(error.param),
        "line": None,
    }


def _text(said: str) -> str:
    """Half characters, which a client's field may be called, cannot be sent."""
    return said.encode("utf-8", "replace").decode()


def read_line(files: Files, batch: Batch, line: Line) -> bytes:
    with files.path(batch.input_file).open("rb") as file:
        file.seek(line.start)
        return file.read(line.size)


def write_outputs(files: Files, batches: Batches, batch: Batch, unanswered: Callable[[str], str]) -> None:
    """The answers into files, in the order of the lines; `unanswered` writes a line that has none, by its custom_id."""
    assert batch.ends_as is not None
    kept: dict[bool, str] = {}
    sizes: dict[bool, int] = {}
    with ExitStack() as stack:
        written = {ok: stack.enter_context(files.draft()) for ok in (True, False)}
        for line in batches.lines(batch.id):
            ok = bool(line["ok"])
            answer = unanswered(line["custom_id"]) if line["answer"] is None else line["answer"]
            written[ok][1].write(answer.encode() + b"\n")
        for ok, (id, file) in written.items():
            kept[ok], sizes[ok] = id, file.tell()
    names = {True: f"{batch.id}_output.jsonl", False: f"{batch.id}_error.jsonl"}
    used = {ok for ok, size in sizes.items() if size}
    try:
        with batches.store.writing() as database:
            output, error = (kept[ok] if ok in used else None for ok in (True, False))
            closed = batches.close(database, batch, output, error)
            for ok in used if closed else ():
                files.enter(
                    *(database, kept[ok], batch.owner),
                    name=names[ok],
                    purpose="batch_output",
                    size=sizes[ok],
                    seconds=batch.output_seconds,
                )
        used = used if closed else set()
    except BaseException:
        used = set()
        raise
    finally:
        for ok in kept.keys() - used:
            files.path(kept[ok]).unlink(missing_ok=True)
