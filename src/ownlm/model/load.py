"""What a MODEL on the command line may be, and the folder that it stands for."""

from pathlib import Path

from ownlm.errors import OwnlmError
from ownlm.model.formats.huggingface import CONFIG

# Where in a quickstart's folder a model lies: the one to talk to first.
_WITHIN = ("chat", "base")


def model_folder(path: Path) -> Path:
    """`path` itself when it is a model folder, else the model in the quickstart's folder `path`."""
    if not path.exists():
        raise OwnlmError(f"no such model: {path}; name a model folder, such as runs/quickstart/chat")
    for folder in (path, *(path / name for name in _WITHIN)):
        if (folder / CONFIG).is_file():
            return folder
    if (path / "run.json").is_file():
        raise OwnlmError(f"the run in {path} has not ended, so it holds no model yet; go on with it first")
    raise OwnlmError(f"{path} holds no model (no {CONFIG}); name a model folder, such as runs/quickstart/chat")
