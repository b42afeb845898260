"""The log of decisions: bound line by line, whole after a kill, and every change of it seen."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ownlm.cli.serve_log import verify_log
from ownlm.errors import OwnlmError
from ownlm.server.guard.log import NAME, DecisionLog, hash_of, line_of
from ownlm.server.guard.verify import verify


def write(folder: Path, count: int) -> Path:
    async def together(log: DecisionLog) -> None:
        await asyncio.gather(*(log.append({"rule": f"r{number}", "action": "log"}) for number in range(count)))

    log = DecisionLog(folder)
    asyncio.run(together(log))
    log.close()
    return folder / NAME


def test_an_untouched_log_is_unbroken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, 3)
    path = write(tmp_path, 2)
    found = verify(path)
    assert (found.decisions, found.broken, found.torn) == (5, None, False)
    assert verify_log(data=tmp_path) == 0
    assert (
        f"5 decisions, unbroken from {found.first} to {found.last}, last hash {found.hash}" in capsys.readouterr().out
    )
    assert (path.stat().st_mode | (tmp_path / "guard.salt").stat().st_mode) & 0o077 == 0


def altered(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2].replace(b'"r2"', b'"rX"'), *lines[3:]]


def altered_with_its_hash(lines: list[bytes]) -> list[bytes]:
    record = json.loads(lines[2])
    record.pop("hash")
    record["rule"] = "rX"
    return [*lines[:2], line_of(record, hash_of(record)).encode(), *lines[3:]]


@pytest.mark.parametrize(
    ("change", "line", "told"),
    [
        (altered, 3, "it was altered"),
        (altered_with_its_hash, 4, "inserted or reordered"),
        (lambda lines: [lines[0].replace(b'{"number": 1', b'{"number": 9, "number": 1'), *lines[1:]], 1, "altered"),
        (lambda lines: [*lines[:1], *lines[2:]], 2, "removed or reordered"),
        (lambda lines: lines[1:], 1, "removed or reordered"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2, "removed or reordered"),
        (lambda lines: [*lines[:3], lines[1], *lines[3:]], 4, "inserted or reordered"),
        (lambda lines: [*lines[:1], b"nonsense\n", *lines[1:]], 2, "no decision"),
        (lambda lines: [*lines[:1], b"[" * 50_000 + b"\n", *lines[1:]], 2, "no decision"),
        (lambda lines: [b"x" * 200_000 + b"\n"], 1, "no decision"),
    ],
)
def test_the_first_line_that_breaks_is_told(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], line: int, told: str
) -> None:
    path = write(tmp_path, 5)
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    found = verify(path)
    assert found.line == line and told in (found.broken or "")
    assert verify_log(data=tmp_path) == 1


def test_a_cut_end_is_seen_against_a_noted_hash_alone(tmp_path: Path) -> None:
    path = write(tmp_path, 5)
    noted = verify(path).hash
    write(tmp_path, 1)
    assert verify_log(data=tmp_path, head=noted) == 0 and verify(path, noted).head_at == 5
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
    assert verify_log(data=tmp_path) == 0
    assert verify_log(data=tmp_path, head=noted) == 1


@pytest.mark.parametrize("whole", [0, 2])
def test_a_torn_line_is_taken_off_and_noted(tmp_path: Path, whole: int) -> None:
    path = write(tmp_path, 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:whole]) + lines[whole][:40])
    assert verify(path).torn and verify(path).broken is None
    write(tmp_path, 1)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record.get("action") for record in records] == ["log"] * whole + ["mended", "log"]
    assert records[whole]["bytes"] == 40 and verify(path).decisions == whole + 2


def test_nothing_follows_an_altered_end_and_one_server_writes(tmp_path: Path) -> None:
    path = write(tmp_path, 2)
    log = DecisionLog(tmp_path)
    with pytest.raises(OwnlmError, match="another server writes"):
        DecisionLog(tmp_path)
    log.close()
    path.write_bytes(path.read_bytes().replace(b'"r1"', b'"rX"'))
    with pytest.raises(OwnlmError, match="was altered"):
        DecisionLog(tmp_path)


def test_a_full_disk_leaves_the_log_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = DecisionLog(tmp_path)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            asyncio.run(log.append({"rule": "lost"}))
    asyncio.run(log.append({"rule": "kept"}))
    log.close()
    assert verify(tmp_path / NAME).decisions == 1 and b"lost" not in (tmp_path / NAME).read_bytes()


KILLED = """
import asyncio, sys
from pathlib import Path
from ownlm.server.guard.log import DecisionLog

async def write():
    log = DecisionLog(Path(sys.argv[1]))
    number = 0
    while True:
        await asyncio.gather(*(log.append({"rule": str(number + place)}) for place in range(3)))
        number += 3
        print(number, flush=True)

asyncio.run(write())
"""


def test_a_kill_in_the_middle_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None and writer.stdout.readline()
    time.sleep(0.1)
    writer.send_signal(signal.SIGKILL)
    promised = [int(line) for line in writer.communicate()[0].split()]
    write(tmp_path, 1)
    found = verify(tmp_path / NAME)
    assert found.broken is None and not found.torn and found.decisions > max(promised, default=3)
