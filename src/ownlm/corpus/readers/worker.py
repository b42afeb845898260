"""The process that reads what needs a parser: a path and a format on each line in, a Reading or a reason out.

    {"path": "a.pdf", "format": "pdf"}  ──▶  {"text": ..., "format": ..., "places": ..., ...} or {"reason": ...}

It may be killed by its limits, or crash; apart.py then starts another.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ownlm.corpus.readers.bounds import MOST_FILE_BYTES
from ownlm.corpus.readers.docx_file import read_docx
from ownlm.corpus.readers.epub_book import read_epub
from ownlm.corpus.readers.formats import open_unpacked
from ownlm.corpus.readers.html_page import read_html
from ownlm.corpus.readers.pdf_file import read_pdf
from ownlm.corpus.readers.reading import Reading, UnreadableError

READERS: dict[str, Callable[[bytes], Reading]] = {
    "docx": read_docx,
    "epub": read_epub,
    "html": read_html,
    "pdf": read_pdf,
}
_MEMORY = 4 * 2**30


def seconds_for(size: int) -> int:
    """Of computing, for a file of `size` bytes."""
    return 30 + size // 200_000


def main() -> None:
    # What a library prints must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _limit_memory()
    for line in sys.stdin:
        asked = json.loads(line)
        answers.write(json.dumps(_answer(Path(asked["path"]), asked["format"])) + "\n")
        answers.flush()


def _answer(path: Path, format: str) -> dict[str, Any]:
    try:
        with open_unpacked(path) as file:
            data = file.read(MOST_FILE_BYTES + 1)
        if len(data) > MOST_FILE_BYTES:
            return {"reason": "too large"}
        _limit_computing(seconds_for(len(data)))
        return asdict(READERS[format](data))
    except UnreadableError as error:
        return {"reason": error.reason}
    except MemoryError:
        return {"reason": "too large"}
    except OSError:
        return {"reason": "forbidden"}
    except Exception:  # whatever a library raises over one file, the others are read
        return {"reason": "damaged"}


def _limit_memory() -> None:
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_computing(seconds: int) -> None:
    """From now on; the kernel ends the process (SIGXCPU) when they are used up."""
    if sys.platform != "win32":
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


if __name__ == "__main__":
    main()
