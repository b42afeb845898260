"""`ownlm convert`: a model from one format to another."""

import sys
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def convert(
    source: str,
    target: Path,
    *,
    quantization: str | None = None,
    force: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Write a model in another format, read it again and compare; a target that differs is not kept.

    Example: ownlm convert runs/quickstart/chat mine.gguf --quantization q8_0

    Parameters
    ----------
    source
        A model folder, a run's folder, a .gguf file, a starter (smollm2), or hub:ORG/NAME.
    target
        A file that ends in .gguf, for llama.cpp and Ollama; else a Hugging Face folder.
    quantization
        f32, f16 or bf16; for .gguf also q8_0, q5_1, q5_0, q4_1, q4_0. Left out: what loses nothing.
    force
        Replace what is there; a folder is moved aside.
    json
        Print the figures as one JSON object.
    """
    from ownlm.cli.open_model import locate_model
    from ownlm.opened import convert as write_converted

    done = write_converted(locate_model(source), target, quantization=quantization, force=force)
    if json:
        sys.stdout.write(dumps({**asdict(done), "path": str(done.path)}, indent=2) + "\n")
        return 0
    types = ", ".join(f"{name} ({count})" for name, count in done.stored_as.items())
    sys.stdout.write(f"{done.path}: {done.bytes / 1e6:,.1f} MB, stored as {types}\n")
    sys.stdout.write(f"read again: same tokens, scores within {done.largest_difference:.2g}")
    if done.lossless:
        sys.stdout.write(": nothing was lost\n")
    else:
        sys.stdout.write(
            f"; the likeliest token is the same at {done.agreement:.1%} of the sample's places\n"
            f"perplexity on the sample: {done.perplexity_before:.3f} before, {done.perplexity_after:.3f} after\n"
        )
    return 0
