"""What a user may write as MODEL, and the folder or .gguf file that it stands for.

    runs/quickstart, a model folder, a .gguf file ──▶ itself, or the model in it     (looked at first)
    a folder with a LoRA adapter                  ──▶ itself; its config names the model that it is for
    smollm2                                       ──▶ the starter in the cache, fetched if the user says so
    hub:ORG/NAME                                  ──▶ the hub's snapshot on this machine

A bare name is never looked up on a network: what people call their models can be private.
"""

from collections.abc import Callable
from pathlib import Path

from ownlm.artefact import content_hash, file_sha256, read_errors, verify_artefact
from ownlm.artefact.cache import cache_folder
from ownlm.artefact.card import CARD_NAME
from ownlm.errors import OwnlmError
from ownlm.model.fetch_wheel import Progress
from ownlm.model.hub import PREFIX, fetch_from_hub
from ownlm.model.starters import STARTERS, Starter, find_starter, get_starter

# A yes or no, asked of the user; None where nobody can be asked, which means no.
Ask = Callable[[str], bool]

GGUF_SUFFIX = ".gguf"
_GGUF_MAGIC = b"GGUF"
_CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
# Where in a quickstart's folder a model lies: the one to talk to first.
_WITHIN = ("chat", "base")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_MBIT_PER_SECOND = 50


def locate(model: str | Path, *, ask: Ask | None = None, progress: Progress | None = None, fetch: bool = True) -> Path:
    """The model folder or the .gguf file that `model` stands for.

    `ask` is asked before a starter is fetched; `progress` is told bytes so far and in all. `fetch`: False where not the
    user wrote hub:, but a file that may be anybody's; then it has to be on this machine.
    """
    text = str(model)
    if not text:
        raise OwnlmError("MODEL is empty; name a model folder (`.` is this one), a .gguf file or a starter")
    if text.startswith(PREFIX):
        return fetch_from_hub(text, fetch=fetch)
    path = Path(model)
    with read_errors(path):
        if path.is_dir():
            return _in_folder(path)
        if path.exists():
            return _checked_file(path)
    if text in STARTERS:
        return _starter(STARTERS[text], ask, progress)
    raise OwnlmError(_no_such_model(text))


def is_path(model: str) -> bool:
    """Whether `model` names a place on this machine, rather than a starter or a model of the hub."""
    return not model.startswith(PREFIX) and (model not in STARTERS or Path(model).exists())


def verified_content(place: Path) -> str:
    """One hash over a located model: its card's, after checking its files, or of the files that are there."""
    if place.is_file():
        return file_sha256(place)
    if (place / CARD_NAME).is_file():
        return verify_artefact(place).content
    files = [path for path in place.iterdir() if path.suffix in (".json", ".safetensors", ".jinja") and path.is_file()]
    return content_hash({path.name: {"sha256": file_sha256(path)} for path in files})


def how_to_fetch(starter: Starter) -> str:
    return f"ownlm starter get {starter.name} --yes"


def question(starter: Starter) -> str:
    """What is fetched, from where, under which licence, how large and how long: all that a yes agrees to."""
    seconds = starter.download_bytes * 8e-6 / _MBIT_PER_SECOND
    return (
        f"{starter.name} is not on this machine yet: {starter.title}.\n"
        f"Licence {starter.licence}; source {starter.source}\n"
        f"{starter.download_bytes / 1e6:.0f} MB to download from the package index, about {seconds:.0f} s at "
        f"{_MBIT_PER_SECOND} Mbit/s; kept in {cache_folder()}.\nFetch it?"
    )


def _in_folder(path: Path) -> Path:
    for folder in (path, *(path / name for name in _WITHIN)):
        if (folder / _CONFIG).exists():
            _refuse_only_pickles(folder)
            return folder
        if (folder / ADAPTER_CONFIG).exists():
            return folder
    if (path / "run.json").is_file():
        raise OwnlmError(f"the run in {path} has not ended, so it holds no model yet; go on with it first")
    found = sorted(path.glob(f"*{GGUF_SUFFIX}"))
    if len(found) == 1:
        return found[0]
    if found:
        raise OwnlmError(f"{path} holds {len(found)} .gguf files; name one, such as {found[0]}")
    starter = f"; for the starter {path} write it from another folder" if str(path) in STARTERS else ""
    raise OwnlmError(
        f"{path} holds no model (no {_CONFIG}, no .gguf); name a model folder, such as runs/quickstart/chat{starter}"
    )


def _checked_file(path: Path) -> Path:
    if path.suffix.lower() in _PICKLES:
        raise OwnlmError(f"{path} is a pickle, {_WHY_NO_PICKLE}")
    if not path.is_file():
        raise OwnlmError(f"{path} is neither a folder nor a file; name a model folder or a .gguf file")
    with path.open("rb") as file:
        magic = file.read(len(_GGUF_MAGIC))
    # Some tools keep their GGUF files under a hash for a name; and the reader says what is wrong with a .gguf.
    if magic == _GGUF_MAGIC or path.suffix.lower() == GGUF_SUFFIX:
        return path
    raise OwnlmError(f"{path} is a file but no GGUF; name a .gguf file, or the folder of a model")


_WHY_NO_PICKLE = (
    "which can run code when it is opened, so it never is; write safetensors of it where you trust it: "
    'transformers\' AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained("NEW")'
)


def _refuse_only_pickles(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickles:
        raise OwnlmError(f"{folder} has its weights as a pickle alone ({pickles[0].name}), {_WHY_NO_PICKLE}")


def _starter(starter: Starter, ask: Ask | None, progress: Progress | None) -> Path:
    if found := find_starter(starter):
        return found
    if ask is None:
        raise OwnlmError(
            f"the starter {starter.name} is not on this machine yet ({starter.download_bytes / 1e6:.0f} MB to "
            f"download); fetch it with: {how_to_fetch(starter)}"
        )
    if not ask(question(starter)):
        raise OwnlmError(f"{starter.name} was not fetched; whenever you want it: {how_to_fetch(starter)}")
    total = starter.download_bytes
    return get_starter(starter, progress=progress, waiting=lambda: progress(0, total) if progress else None)


def _no_such_model(text: str) -> str:
    if Path(text).suffix.lower() == GGUF_SUFFIX:
        return f"no such file: {text}; check the spelling"
    name = text if text.count("/") == 1 and not text.startswith((".", "/", "~")) else "ORG/NAME"
    return (
        f"no such model: {text} (no folder of that name here); for a model on the hub write hub:{name}; "
        f"starters: {', '.join(STARTERS)}"
    )
