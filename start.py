"""One command from a fresh checkout to a conversation: python3 start.py [options]

In:  a machine with Python 3.11 or newer, and the lock files beside this one.
Out: a virtual environment in .venv that holds the lock and ownlm itself; then `ownlm quickstart [options]`.

    Python --> room on disk --> .venv --> torch (CPU build, if to be had) --> the lock --> ownlm --> run

An interrupted set-up goes on with the next call, and a finished one is recognised by its stamp in well under
a second. Standard library only, and no syntax newer than Python 3.6, so that an old Python can read this far
and say what it lacks. Linux and macOS; written for Windows too, untried there.

Options of its own (all others go to `ownlm quickstart`):
    --install-only   set up .venv and stop
    --dev            also what developers need (ruff, mypy, pytest)
    --peers          also the peers that `make test-peers` compares with (transformers)
"""

import sys

MINIMUM_PYTHON = (3, 11)

if sys.version_info < MINIMUM_PYTHON:
    sys.stderr.write(
        "ownlm: this is Python %d.%d, and ownlm needs Python %d.%d or newer; install one "  # noqa: UP031
        "(python.org, or your system's packages) and run it as, for example, `python%d.%d start.py`\n"
        % (tuple(sys.version_info[:2]) + MINIMUM_PYTHON * 2)
    )
    sys.exit(2)

import hashlib  # noqa: E402 - after the check above, which an old Python must reach
import importlib.util  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "ownlm-stamp.json"
LOG = VENV / "install.log"
LOCKS = {"core": "requirements.lock", "dev": "requirements-dev.lock", "peers": "requirements-peers.lock"}
ON_WINDOWS = os.name == "nt"

# Measured with the lock of 0.1.0 on Linux: wheels as fetched, files as unpacked, both rounded up.
CPU_DOWNLOAD_MB, CPU_DISK_GB = 325, 2.5
TORCH_DOWNLOAD_MB = 192
# torch with CUDA and NVIDIA's libraries; not measured here, from the sizes their index states.
CUDA_DOWNLOAD_MB, CUDA_DISK_GB = 3200, 9.0
EXTRA_DOWNLOAD_MB = {"dev": 30, "peers": 130}
LINE_MBIT_PER_SECOND = 50
UNPACK_MB_PER_SECOND = 5  # of wheels, on two cores of a laptop
ANSWER_SECONDS = 5  # what the CPU build's index gets to answer in
SIGNS_OF_NO_NETWORK = (
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


class Stop(Exception):
    """What keeps the set-up from going on, in one line with the fix."""


# ---------------------------------------------------------------- what this machine has


def has_nvidia(proc: Path = Path("/proc"), path: "str | None" = None) -> bool:
    """Whether an NVIDIA driver is here: its folder under /proc, or its tool on the search path."""
    return (proc / "driver" / "nvidia").exists() or shutil.which("nvidia-smi", path=path) is not None


def check_venv_possible() -> None:
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if shutil.which("apt"):
        raise Stop(f"{name} here lacks `ensurepip`; run `sudo apt install python3-venv`, then this again")
    raise Stop(f"{name} here lacks `ensurepip`; install your system's package for it, or python.org's Python")


def check_disk(need_gb: float, download_mb: int) -> None:
    """Room for the packages here, and for the wheels where temporary files go, before anything is fetched."""
    free_gb = shutil.disk_usage(str(ROOT)).free / 1e9
    if free_gb < need_gb:
        raise Stop(
            f"too little disk: {free_gb:.1f} GB free in {ROOT}, {need_gb:.1f} GB needed; "
            "free some, or move this folder to a larger disk"
        )
    temporary = Path(tempfile.gettempdir())
    other_disk = temporary.stat().st_dev != ROOT.stat().st_dev
    if other_disk and shutil.disk_usage(str(temporary)).free < download_mb * 1.2e6:
        raise Stop(
            f"too little disk: pip needs {download_mb * 1.2e-3:.1f} GB in {temporary} for a while; "
            "free some, or set TMPDIR to a folder on a larger disk"
        )


def minutes(download_mb: int) -> int:
    seconds = download_mb * 8 / LINE_MBIT_PER_SECOND + download_mb / UNPACK_MB_PER_SECOND
    return max(1, round(seconds / 60))


# ---------------------------------------------------------------- the state of .venv


def in_venv(name: str) -> Path:
    return VENV / ("Scripts" if ON_WINDOWS else "bin") / (name + ".exe" if ON_WINDOWS else name)


def lock_hash() -> str:
    """Changes with whatever decides what .venv should hold."""
    digest = hashlib.sha256()
    for name in [*LOCKS.values(), "pyproject.toml"]:
        digest.update(name.encode() + b"\0" + (ROOT / name).read_bytes() + b"\0")
    return digest.hexdigest()


def read_stamp() -> "dict[str, object]":
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(extras: "set[str]", python: str) -> None:
    draft = STAMP.with_suffix(".part")
    facts = {"lock": lock_hash(), "root": str(ROOT), "python": python, "extras": sorted(extras)}
    draft.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    draft.replace(STAMP)


def stamped_extras(stamp: "dict[str, object]") -> "set[str]":
    """What a finished set-up of this very lock, in this very place, put in."""
    if stamp.get("lock") != lock_hash() or stamp.get("root") != str(ROOT):
        return set()
    extras = stamp.get("extras")
    return {"core", *map(str, extras)} if isinstance(extras, list) else set()


def venv_python() -> str:
    """The version of .venv's Python as "3.11", or "" when there is none that runs."""
    try:
        asked = subprocess.run(
            [str(in_venv("python")), "-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.decode("utf-8", "replace").strip() if asked.returncode == 0 else ""


def is_ready(extras: "set[str]") -> bool:
    stamp = read_stamp()
    here = stamped_extras(stamp)
    return here >= {"core"} | extras and in_venv("ownlm").exists() and venv_python() == stamp.get("python")


def prepare_venv() -> str:
    """Make .venv, or keep it where it still works; gives its Python's version."""
    if VENV.exists():
        ours = {"bin", "include", "lib", "lib64", "Scripts", "Include", "Lib", LOG.name, STAMP.name}
        if not (VENV / "pyvenv.cfg").exists() and {entry.name for entry in VENV.iterdir()} - ours:
            raise Stop(f"{VENV} is in the way and is no virtual environment; move it elsewhere and try again")
        version = venv_python()
        belongs = version in _configured_version()
        new_enough = version and tuple(map(int, version.split("."))) >= MINIMUM_PYTHON
        forget_half_installed()
        if belongs and new_enough and run([str(in_venv("python")), "-m", "pip", "--version"])[0] == 0:
            return version
        say("the .venv here is broken or of another Python: making it anew")
    check_venv_possible()
    code, output = run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    if code:
        raise Stop(explain(output))
    return venv_python()


def forget_half_installed() -> None:
    """pip writes a package's RECORD last and takes one without it for whole: cut off there, it must come again."""
    for facts in VENV.glob("[Ll]ib/**/site-packages/*.dist-info"):
        if not (facts / "RECORD").exists():
            shutil.rmtree(str(facts))


def _configured_version() -> "set[str]":
    """The Python that .venv's packages were put in for: another one behind the same link cannot see them."""
    try:
        lines = (VENV / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    values = [line.partition("=")[2].strip() for line in lines if line.startswith("version")]
    return {".".join(value.split(".")[:2]) for value in values}


# ---------------------------------------------------------------- running pip and uv


def say(line: str) -> None:
    if sys.stdout.isatty():
        sys.stdout.write("\r\033[K")
    print("ownlm: " + line, flush=True)


def progress(line: str) -> None:
    """pip's own steps on one line of a terminal, which the next step writes over; nothing in a log file."""
    if sys.stdout.isatty() and line.split(" ")[0] in ("Collecting", "Downloading", "Installing", "Using"):
        width = shutil.get_terminal_size().columns - 3
        sys.stdout.write("\r\033[K  " + line.strip()[:width])
        sys.stdout.flush()


def child_environment() -> "dict[str, str]":
    """The user's settings for pip stay (mirror, proxy, cache), but for those that install elsewhere."""
    elsewhere = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PYTHONHOME", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in elsewhere}
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_USER": "0"}
    return dict(kept, PYTHONUNBUFFERED="1", **quiet)


def run(command: "list[str]") -> "tuple[int, str]":
    """Run to the end, show the steps, keep the whole output in the log; gives exit status and output."""
    lines = []
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=child_environment(),
            cwd=str(ROOT),
        )
    except OSError as error:
        return 127, str(error)
    with child:
        assert child.stdout is not None
        for raw in child.stdout:
            line = raw.decode("utf-8", "replace")
            lines.append(line)
            progress(line)
    output = "".join(lines)
    if VENV.is_dir():
        with LOG.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n{output}[exit {child.returncode}]\n")
    return child.returncode, output


def explain(output: str) -> str:
    """pip's many lines as the one that helps."""
    again = "then run the same command again: it goes on from here"
    log = f" (log: {LOG.relative_to(ROOT)})" if LOG.exists() else ""
    found = output.lower()
    if "no space left on device" in found or "errno 28" in found:
        return f"the disk is full; free some (also in {tempfile.gettempdir()}, or set TMPDIR), {again}{log}"
    if "certificate_verify_failed" in found or "sslerror" in found:
        return f"the package index's certificate is not trusted; name yours by PIP_CERT=FILE, {again}{log}"
    if any(sign in found for sign in SIGNS_OF_NO_NETWORK):
        return f"no connection to the package index; check the network (or set HTTPS_PROXY), {again}{log}"
    if "permission denied" in found or "read-only file system" in found:
        return f"may not write in {ROOT}; move this folder to where you may, and try again{log}"
    missing = [line for line in output.splitlines() if "No matching distribution found for" in line]
    if missing:
        what = missing[-1].split("found for", 1)[1].strip()
        return (
            f"the package index has no {what} for Python {sys.version_info[0]}.{sys.version_info[1]} on this "
            f"system; try another Python (3.11 to 3.13) or another index{log}"
        )
    errors = [line.strip() for line in output.splitlines() if "error" in line.lower()]
    reason = (errors or output.strip().splitlines() or ["no reason given"])[-1]
    return f"setting up failed: {reason}{log}"


def must(command: "list[str]") -> None:
    code, output = run(command)
    if code:
        raise Stop(explain(output))


def pip(*arguments: str) -> "list[str]":
    return [str(in_venv("python")), "-m", "pip", *arguments]


# ---------------------------------------------------------------- torch: megabytes, not gigabytes


def locked_torch() -> str:
    lines = (ROOT / LOCKS["core"]).read_text(encoding="utf-8").splitlines()
    return next(line.strip() for line in lines if line.startswith("torch=="))


def torch_is_there() -> bool:
    question = "import importlib.metadata as m; print('torch==' + m.version('torch').split('+')[0])"
    code, output = run([str(in_venv("python")), "-I", "-c", question])
    return code == 0 and output.strip() == locked_torch()


def find_uv() -> "str | None":
    """uv knows where torch's CPU build lies, which pip alone does not; the user's own, or one in .venv."""
    for name in (str(in_venv("uv")), "uv"):
        found = shutil.which(name)
        if found:
            return found
    code, output = run(pip("install", "uv>=0.8"))
    if code and any(sign in output.lower() for sign in SIGNS_OF_NO_NETWORK):
        raise Stop(explain(output))  # nothing else would be had either: say so now, not after more waiting
    return str(in_venv("uv")) if code == 0 and in_venv("uv").exists() else None


def install_cpu_torch(answer_seconds: float = ANSWER_SECONDS) -> bool:
    """torch's CPU build by uv; False where it cannot be had, is not answered for in time, or fails."""
    uv = find_uv()
    if uv is None:
        return False
    wanted = ["--python", str(in_venv("python")), "--torch-backend", "cpu", "--no-deps", locked_torch()]
    try:
        probe = subprocess.run(
            [uv, "pip", "install", "--dry-run", *wanted],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(child_environment(), UV_HTTP_RETRIES="0"),
            cwd=str(ROOT),
            timeout=answer_seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0 and run([uv, "pip", "install", *wanted])[0] == 0


def pip_offers_cpu_torch() -> bool:
    """Whether pip, as the user set it up (an index or wheels of their own), finds a CPU build itself."""
    try:
        report = subprocess.run(
            pip("install", "--dry-run", "--quiet", "--no-deps", "--report", "-", locked_torch()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
            cwd=str(ROOT),
            timeout=30,
            check=False,
        )
        found = json.loads(report.stdout.decode("utf-8"))["install"]
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return False
    return bool(found) and str(found[0]["metadata"]["version"]).endswith("+cpu")


# ---------------------------------------------------------------- the set-up


def announce(download_mb: int, note: str) -> None:
    say(
        f"setting up .venv: about {download_mb} MB to download, about {minutes(download_mb)} min "
        f"at {LINE_MBIT_PER_SECOND} Mbit/s{note}"
    )


def install(extras: "set[str]") -> None:
    more_mb = sum(EXTRA_DOWNLOAD_MB[extra] for extra in extras)
    cpu_route = sys.platform.startswith("linux") and not has_nvidia()
    cuda = sys.platform.startswith("linux") and not cpu_route
    stamp = read_stamp()
    if "core" in stamped_extras(stamp) and in_venv("ownlm").exists():
        extras = extras | stamped_extras(stamp) - {"core"}
        check_disk(0.5, more_mb)
        announce(more_mb, " (what is there already stays)")
    else:
        download_mb, disk_gb = (CUDA_DOWNLOAD_MB, CUDA_DISK_GB) if cuda else (CPU_DOWNLOAD_MB, CPU_DISK_GB)
        if any(VENV.glob("[Ll]ib/**/site-packages/torch-*.dist-info")):
            download_mb, disk_gb = CPU_DOWNLOAD_MB - TORCH_DOWNLOAD_MB, 1.0
        check_disk(disk_gb, download_mb)
        announce(download_mb + more_mb, " (less what is there already)" if VENV.exists() else "")
    if STAMP.exists():
        STAMP.unlink()
    python = prepare_venv()
    if cpu_route and not torch_is_there() and not install_cpu_torch() and not pip_offers_cpu_torch():
        check_disk(CUDA_DISK_GB, CUDA_DOWNLOAD_MB)
        say("torch's CPU build cannot be had from here; taking the standard one, which brings CUDA along:")
        announce(CUDA_DOWNLOAD_MB + more_mb, "")
    locks = [part for extra in ["core", *sorted(extras)] for part in ("-r", LOCKS[extra])]
    # The two that build the editable install come along, so that it needs no isolated build of its own.
    must(pip("install", *locks, "-c", LOCKS["dev"], "hatchling", "editables"))
    must(pip("install", "--no-deps", "--no-build-isolation", "--editable", "."))
    write_stamp(extras, python)
    say("set up.")


class OneAtATime:
    """Two set-ups of one folder would break each other's .venv: the second waits (POSIX)."""

    def __enter__(self) -> None:
        self.file = Path(__file__).open("rb")
        if not ON_WINDOWS:
            import fcntl

            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say("another set-up runs in this folder; waiting for it")
                fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self.file.close()


def quickstart(options: "list[str]") -> int:
    command = [str(in_venv("ownlm")), "quickstart", *options]
    sys.stdout.flush()
    if not ON_WINDOWS:
        os.execv(command[0], command)
    return subprocess.call(command)  # execv there returns to the shell at once, which then takes the keyboard


def main(arguments: "list[str]") -> int:
    own = {"--install-only", "--dev", "--peers"} & set(arguments)
    options = [argument for argument in arguments if argument not in own]
    extras = {name for name in ("dev", "peers") if "--" + name in own}
    extras |= {"dev"} if "peers" in extras else set()
    try:
        if not is_ready(extras):
            if "--help" in options or "-h" in options:
                print(__doc__)
                return 0
            with OneAtATime():
                if not is_ready(extras):
                    install(extras)
    except Stop as stop:
        say_stop(str(stop))
        return 2
    except OSError as error:
        say_stop(explain(str(error)))
        return 2
    except KeyboardInterrupt:
        say_stop("stopped; the same command goes on from here")
        return 130
    return 0 if "--install-only" in own else quickstart(options)


def say_stop(line: str) -> None:
    if sys.stdout.isatty():
        sys.stdout.write("\r\033[K")
        sys.stdout.flush()
    sys.stderr.write("ownlm: " + " ".join(line.split()) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
