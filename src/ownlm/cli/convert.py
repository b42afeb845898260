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
        A text of the kind that the model is for: bits per byte before and after are measured on its first 512 tokens.
    force
        Move what is there aside, to NAME.old.
    json
        Print the figures as one JSON object.
    """
    from ownlm.cli.open_model import locate_model
    from ownlm.cli.terminal import terminal_columns
    from ownlm.cli.wrap import wrap_text
    from ownlm.opened import convert as write_converted
    from ownlm.opened.convert import MUST_CHANGE, SAMPLE

    sample = SAMPLE if text is None else _read(text)
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
            f"bits per byte on {on}: {done.bits_per_byte_before:.3f} before, {done.bits_per_byte_after:.3f} after, "
            f"the fewer the better (perplexity per token {done.perplexity_before:.2f}, {done.perplexity_after:.2f})",
        ]
    if done.change_to_rounding is not None and done.change_to_rounding < MUST_CHANGE:
        lines.append(
            f"the adapter's change to the weights is {done.change_to_rounding:.2g} times what writing them so rounded "
            "away: some or all of what it learned may be lost; choose a wider type, such as Q8_0 or F16"
        )
    if done.context_cut_to is not None:
        lines.append(
            f"its context ends at {done.context_cut_to:,} tokens, the model's sliding window: llama.cpp has no window "
            "for this family, and would answer wrongly past it"
        )
    sys.stdout.write(wrap_text("\n".join(map(safe_line, lines)), terminal_columns(sys.stdout)) + "\n")
    return 0


def _read(path: Path) -> str:
    """The file's beginning, as far as it is used."""
    from ownlm.artefact import read_errors
    from ownlm.errors import OwnlmError
    from ownlm.opened.convert import MOST_CHARACTERS

    try:
        with read_errors(path), path.open(encoding="utf-8") as file:
            return file.read(MOST_CHARACTERS)
    except UnicodeDecodeError:
        raise OwnlmError(f"{path} is no UTF-8 text; name another --text") from None
