"""A model put in a folder for another engine: its files, one command, and what a container and a cluster need.

    MODEL ──convert──▶ FOLDER/model/     safetensors for vLLM and SGLang, GGUF for llama.cpp and Ollama
                       FOLDER/run.sh, compose.yaml, kubernetes/, README.md

All of it appears at once, or nothing does.
"""

import json
import math
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ownlm.artefact import disk_errors
from ownlm.artefact.folder import write_whole
from ownlm.artefact.write import refuse_unfit_name
from ownlm.errors import OwnlmError
from ownlm.model.families import read_config
from ownlm.model.locate import Ask, locate
from ownlm.opened.convert import convert, refuse_what_must_stay
from ownlm.opened.deployment.engines import ENGINES, Engine, Place, Served, ollama_script
from ownlm.opened.deployment.ollama import modelfile
from ownlm.opened.files import ModelFiles, read_files

_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# What a YAML reader takes for something else than text.
_YAML_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
# Where nothing is said: room for keys and values grows with it, whether it is used or not.
_CONTEXT = 8192
_FIX = "free some space, or name another --to"
_TAKEN = "name another --to, or add --force to move it aside"


@dataclass(frozen=True, kw_only=True)
class Exported:
    path: Path
    moved: Path | None
    engine: str
    name: str
    context: int
    bytes: int


def export_deployment(
    engine: str,
    source: str | Path,
    target: str | Path,
    *,
    name: str,
    context: int | None = None,
    quantization: str | None = None,
    force: bool = False,
    ask: Ask | None = None,
) -> Exported:
    """Write the model `source` to the folder `target` for `engine`, a key of ENGINES. `name`: what clients call it.

    `context`: tokens that a prompt and its answer may have together. `quantization`: as convert has it.
    """
    if engine not in ENGINES:
        raise OwnlmError(f"there is no engine {engine[:40]!r}; choose one of {', '.join(ENGINES)}")
    if not _NAME.fullmatch(name):
        raise OwnlmError(f"the model's name must be up to 63 letters, digits, and . _ -, got {name[:80]!r}; use --name")
    target, chosen = Path(target), ENGINES[engine]
    refuse_unfit_name(target)
    place = locate(source, ask=ask)
    files = read_files(place)
    refuse_what_must_stay(target, place)
    longest = read_config(files.checkpoint.fields).max_position_embeddings
    if context is not None and not 1 <= context <= longest:
        raise OwnlmError(f"the model reads up to {longest:,} tokens; set --context between 1 and that, got {context}")
    with disk_errors(target, fix=_FIX):
        if target.exists() and not force:
            raise OwnlmError(f"{target} exists already; {_TAKEN}")
    with write_whole(target, force=force, fix=_FIX, other="name another --to") as draft:
        draft.path.mkdir()
        model = draft.path / "model"
        written = _write_model(chosen, files, model, quantization)
        longest = read_config(written.checkpoint.fields).max_position_embeddings
        size = sum(part.stat().st_size for part in model.iterdir())
        sampling = files.suggested_sampling
        served = Served(name=name, context=min(context or _CONTEXT, longest), sampling=sampling)
        if engine == "ollama":
            text = modelfile(written, context=served.context, sampling=sampling)
            (model / "Modelfile").write_text(text, encoding="utf-8")
        _write_around(draft.path, chosen, served, size=size, licence=files.licence)
    return Exported(path=target, moved=draft.moved, engine=engine, name=name, context=served.context, bytes=size)


def _write_model(engine: Engine, files: ModelFiles, model: Path, quantization: str | None) -> ModelFiles:
    if not engine.gguf:
        convert(files.place, model, quantization=quantization)
        return read_files(model)
    model.mkdir()
    written = model / "model.gguf"
    if quantization is None and files.place.is_file():
        # It is what is wanted, in as few bits as it has.
        shutil.copyfile(files.place, written)
    else:
        convert(files.place, written, quantization=quantization)
    return read_files(written)


def _write_around(folder: Path, engine: Engine, served: Served, *, size: int, licence: str | None) -> None:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False)
    facts: dict[str, Any] = {
        "engine": engine,
        "served": served,
        "label": label(served.name),
        "gigabytes": size / 1e9,
        "memory": f"{math.ceil(size / 2**30) + 2}Gi",
        "storage": f"{math.ceil(size / 2**30) + 1}Gi",
        "licence": licence,
        "run": _run_line(engine, served),
        "compose": _in_container(engine, served, key="${API_KEY}"),
        "kubernetes": _in_container(engine, served, key="$(API_KEY)"),
    }
    # "$" is compose's own; what the shell in the container is to read is doubled.
    if engine.name == "ollama":
        facts["compose"] = [part.replace("$", "$$") for part in facts["compose"]]
    for name in ("run.sh", "compose.yaml", "kubernetes/volume.yaml", "kubernetes/server.yaml", "README.md"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(environment.get_template(f"{name}.jinja").render(facts), encoding="utf-8")
    (folder / "run.sh").chmod(0o755)


def _run_line(engine: Engine, served: Served) -> str:
    if engine.name == "ollama":
        return ollama_script(served, "./model").replace("; ", "\n")
    place = Place(model="./model", host='"$HOST"', port='"$PORT"', key='"$API_KEY"')
    return "exec " + " ".join(
        part if part.startswith('"$') else shlex.quote(part) for part in engine.command(served, place)
    )


def _in_container(engine: Engine, served: Served, *, key: str) -> list[str]:
    program = "/app/llama-server" if engine.name == "llamacpp" else None
    place = Place(model="/model", host="0.0.0.0", port=str(engine.port), key=key, program=program)
    return engine.command(served, place)


def label(name: str) -> str:
    """A name as Kubernetes wants it: small letters, digits and dashes, a letter first."""
    found = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].rstrip("-")
    return found if found[:1].isalpha() and found not in _YAML_WORDS else f"model-{found}".rstrip("-")
