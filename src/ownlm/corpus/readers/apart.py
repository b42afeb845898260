"""Files that need a parser are read in a process of their own, which may crash, hang or fill its memory.

    ReaderProcess.read(path, "pdf")  ──▶  worker.py  ──▶  Reading, or UnreadableError

PDFium is C++ and known to crash on hostile files, HTML parsing takes quadratic time in depth, XML can grow: none of
them may end the reading of a folder. The process is started at the first such file (0.4 s) and again after each death.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from ownlm.corpus.readers.reading import Reading, UnreadableError

# Beside the limit on computing (worker.py): for a process that waits for ever.
_MOST_SECONDS = 900


class ReaderProcess:
    """Starts when first asked; `close` ends it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def read(self, path: Path, format: str) -> Reading:
        process = self._process = self._process or _start()
        assert process.stdin and process.stdout
        late = threading.Event()

        def end_it() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(_MOST_SECONDS, end_it)
        timer.start()
        try:
            process.stdin.write(json.dumps({"path": str(path.absolute()), "format": format}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:  # it died before it was asked
            line = ""
        finally:
            timer.cancel()
        if not line.endswith("\n"):
            status = self._end()
            slow = late.is_set() or status == -getattr(signal, "SIGXCPU", 0)
            raise UnreadableError("too slow" if slow else "damaged")
        answer = json.loads(line)
        if "reason" in answer:
            raise UnreadableError(answer["reason"])
        places, unread = (tuple((a, b) for a, b in answer.pop(name)) for name in ("places", "unread"))
        return Reading(**answer, places=places, unread=unread)

    def close(self) -> None:
        if self._process:
            self._end()

    def _end(self) -> int:
        process, self._process = self._process, None
        assert process and process.stdin and process.stdout
        process.stdout.close()
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            return process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _start() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        # -P: what lies in the folder where the user stands is no module of ours.
        [sys.executable, "-P", "-m", "ownlm.corpus.readers.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
