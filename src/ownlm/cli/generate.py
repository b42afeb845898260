"""`ownlm generate`: continue a text."""

import sys
from itertools import chain
from typing import Annotated

from cyclopts import Parameter


def generate(
    model: str,
    prompt: str,
    *,
    max_tokens: int = 200,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    stop: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    ignore_eos: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Continue PROMPT, a text as it might stand in what the model has read; "-" reads it from stdin.

    Example: ownlm generate runs/quickstart/base "def" --temperature 0

    Parameters
    ----------
    model
        A model folder, a run's folder, a .gguf file, a starter (smollm2), or hub:ORG/NAME.
    prompt
        The text to go on from.
    max_tokens
        Tokens at most.
    temperature
        0 always takes the likeliest token; higher is bolder.
    top_k
        Choose among the k likeliest tokens; 0: among all.
    top_p
        Choose among the likeliest tokens that together have this probability.
    min_p
        Leave out what is less likely than this share of the likeliest.
    repetition_penalty
        Above 1 makes tokens that were there less likely.
    seed
        The same seed gives the same text.
    stop
        End before this text; may be given several times.
    ignore_eos
        Go on past the end of the text, up to max_tokens.
    json
        One JSON object with text, ids, log-probabilities and usage.
    """
    from ownlm.cli.open_model import open_model

    text = sys.stdin.read() if prompt == "-" else prompt
    opened = open_model(model)
    settings = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": stop,
        "ignore_eos": ignore_eos,
    }
    if json:
        from dataclasses import asdict
        from json import dumps

        sys.stdout.write(dumps(asdict(opened.generate(text, **settings)), ensure_ascii=False) + "\n")
        return 0
    from ownlm.cli.screen_text import safe_text

    safe = safe_text if sys.stdout.isatty() else str
    pieces = opened.stream(text, **settings)
    first = next(pieces, "")  # a mistake shows here, before anything is written
    sys.stdout.write(safe(text))
    for piece in chain((first,), pieces):
        sys.stdout.write(safe(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0
