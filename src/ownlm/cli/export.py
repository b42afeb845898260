"""`ownlm export-deploy`: a model in a folder for another engine, with the command that serves it."""

import re
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from ownlm.cli.screen_text import safe_line


def export_deploy(
    engine: Literal["vllm", "sglang", "llamacpp", "ollama"],
    model: str,
    *,
    to: Path,
    name: str | None = None,
    context: int | None = None,
    quantization: str | None = None,
    force: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Write MODEL in the form that ENGINE opens, with run.sh, compose.yaml, Kubernetes files and a README.md.

    Example: ownlm export-deploy vllm runs/quickstart/chat --to served

    Parameters
    ----------
    engine
        vllm and sglang get safetensors, llamacpp and ollama GGUF.
    model
        A model folder, a run's folder, a .gguf file, a starter (smollm2), or hub:ORG/NAME.
    to
        The folder to write.
    name
        What clients call the model.
    context
        Tokens that a prompt and its answer may have together; left out: 8,192, or what the model reads.
    quantization
        As `ownlm convert` has it; left out: what loses nothing. A .gguf file stays as it is for llamacpp and ollama.
    force
        Move what is there aside, to NAME.old.
    """
    from ownlm.cli.open_model import locate_model
    from ownlm.cli.serve import named_model
    from ownlm.opened.deployment.export import export_deployment

    place = locate_model(model)
    called = name or re.sub(r"[^A-Za-z0-9._-]+", "-", named_model(model)[0]).strip("-._")[:63] or "model"
    done = export_deployment(engine, place, to, name=called, context=context, quantization=quantization, force=force)
    lines = [f"{done.path}: {done.bytes / 1e6:,.1f} MB, called {done.name}, {done.context:,} tokens of context"]
    if done.moved:
        lines.append(f"what was there is now at {done.moved}")
    lines.append(f"{done.path / 'README.md'} says how it is served, and what of that was tried")
    sys.stdout.write("\n".join(map(safe_line, lines)) + "\n")
    return 0
