"""`ownlm convert`: a model from one format to another."""

import sys
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ownlm.cli.screen_text import safe_line


def convert(
    source: str,
    target: Path,
    *,
    quantization: str | None = None,
    text: Path | None = None,
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
        f32, f16 or bf16; for .gguf also q8_0 (a quarter of f32, hardly a loss), q5_1, q5_0, q4_1, q4_0 (an eighth).
        Left out: what loses nothing, which for a 4-bit file means f32, five times its size.
    text
        A text of the kind that the model is for: perplexity before and after is measured on its beginning.
    force
        Move what is there aside, to NAME.old.
    json
        Print the figures as one JSON object.
    """
    from ownlm.artefact import read_text
    from ownlm.cli.open_model import locate_model
    from ownlm.cli.terminal import terminal_columns
    from ownlm.cli.wrap import wrap_text
    from ownlm.opened import convert as write_converted
    from ownlm.opened.convert import SAMPLE

    sample = SAMPLE if text is None else read_text(text, fix="name another --text")
    done = write_converted(locate_model(source), target, quantization=quantization, text=sample, force=force)
    if json:
        sys.stdout.write(dumps(asdict(done), indent=2, default=str) + "\n")
        return 0
    types = ", ".join(f"{count} tensors {name}" for name, count in done.stored_as.items())
    lines = [f"{done.path}: {done.bytes / 1e6:,.1f} MB, {types}"]
    if done.moved:
        lines.append(f"what was there is now at {done.moved}")
    if done.lossless:
        lines.append(f"read again: same tokens, logits within {done.largest_difference:.2g}: nothing was lost")
    else:
        on = str(text) if text is not None else "a sample of prose and code (--text FILE: on yours)"
        lines += [
            f"read again: same tokens; the likeliest next token is the same at {done.agreement:.1%} of places",
            f"perplexity on {on}: {done.perplexity_before:.2f} before, {done.perplexity_after:.2f} after",
        ]
    sys.stdout.write(wrap_text("\n".join(map(safe_line, lines)), terminal_columns(sys.stdout)) + "\n")
    return 0
