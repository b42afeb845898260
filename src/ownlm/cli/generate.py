"""`ownlm generate`: continue a text, or every text of a file."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from ownlm.cli.chat_input import piped_text
from ownlm.cli.generate_flags import DrawingFlags, EndingFlags, FormFlags, RareFlags, biases
from ownlm.cli.open_model import model_to_ask
from ownlm.errors import OwnlmError

if TYPE_CHECKING:
    from ownlm.engine import Request
    from ownlm.opened import Model
    from ownlm.opened.batch import BatchProgress

FILES = Group("Many prompts from a file", sort_key=5)
# Said of an answer that --json-schema and its like ask for.
CUT = "ownlm: the answer was cut before it was whole; raise --max-tokens, or leave out --stop\n"


def generate(
    model: str,
    prompt: str | None = None,
    *,
    json: Annotated[bool, Parameter(negative="")] = False,
    logprobs: int | None = None,
    echo: bool | None = None,
    adapter: Path | None = None,
    speculate: str | None = None,
    ending: EndingFlags | None = None,
    drawing: DrawingFlags | None = None,
    form: FormFlags | None = None,
    rare: RareFlags | None = None,
    input: Annotated[Path | None, Parameter(group=FILES)] = None,
    output: Annotated[Path | None, Parameter(group=FILES)] = None,
    force: Annotated[bool, Parameter(group=FILES, negative="")] = False,
) -> int:
    """Continue PROMPT, a text as it might stand in what the model has read.

    Example: ownlm generate runs/quickstart/base "def" --temperature 0
    From a pipe, what is added alone: cat story.txt | ownlm generate smollm2 - > more.txt

    Parameters
    ----------
    model
        A model folder, a run's folder, a .gguf file, a starter (smollm2), or hub:ORG/NAME.
    prompt
        The text to go on from; "-" reads it from stdin, without the line break at its end.
    json
        One JSON object an answer, with text, ids, log-probabilities, places and usage.
    logprobs
        With --json: the log-probabilities of so many likeliest tokens too, at each place.
    echo
        The prompt in front of the text. Left out: unless it comes from stdin, or --json or a form is asked for.
    adapter
        A folder with a LoRA adapter in PEFT's form, used beside the model's weights.
    speculate
        Guess tokens ahead, which changes no answer: "lookup" from the text itself, for texts that copy or quote;
        or a smaller MODEL of the same tokenizer.
    input
        A file of lines such as {"prompt": "Once upon"} or {"messages": [...]}, with settings of their own if need be.
    output
        Where the answers go, line by line; stopped, the same command goes on.
    force
        Move an existing output aside.
    """
    drawing = drawing or DrawingFlags()
    form = form or FormFlags()
    asked: dict[str, Any] = {
        **asdict(ending or EndingFlags()),
        **asdict(drawing),
        **asdict(rare or RareFlags()),
        "logit_bias": biases(drawing.logit_bias),
        "logprobs": logprobs,
        **form.keywords(),
    }
    if input is not None or output is not None:
        if prompt is not None or input is None or output is None:
            raise OwnlmError("--input and --output go together, and without a PROMPT")
        asked["echo"] = bool(echo)
        return _batch(model, input, output, asked, adapter=adapter, speculate=speculate, force=force)
    if prompt is None:
        raise OwnlmError('nothing to go on from; write a PROMPT, such as "Once upon", or --input FILE --output FILE')
    asked["echo"] = not (json or form.given or prompt == "-") if echo is None else echo
    _check(asked)
    text = piped_text(sys.stdin).removesuffix("\n") if prompt == "-" else prompt
    opened = model_to_ask(model, adapter=adapter, speculate=speculate)
    if json:
        return _as_json(opened, text, asked)
    return _as_text(opened, text, asked)


def _check(asked: dict[str, Any]) -> None:
    """A setting that cannot be is refused before the model is opened."""
    from ownlm.opened import make_request

    make_request([], asked)


def _as_json(model: "Model", prompt: str, asked: dict[str, Any]) -> int:
    from json import dumps

    for answer in model.choices(prompt, **asked):
        sys.stdout.write(dumps(asdict(answer), ensure_ascii=False) + "\n")
    return 0


def _as_text(model: "Model", prompt: str, asked: dict[str, Any]) -> int:
    from ownlm.cli.screen_text import safe_text

    request = model.request(prompt, **asked)
    safe = safe_text if sys.stdout.isatty() else str
    front = safe(prompt) if request.sampling.echo else ""
    if request.sampling.n == 1:
        _stream(model, request, front, safe)
        return 0
    answers = model.choices(prompt, **asked)
    for number, answer in enumerate(answers, start=1):
        sys.stdout.write(f"--- {number} of {len(answers)} ---\n{safe(answer.text)}\n")
    if not all(answer.complete for answer in answers):
        _warn()
    return 0


def _stream(model: "Model", request: "Request", front: str, safe: Any) -> None:
    from ownlm.engine import stream

    complete = True
    for piece in stream(model.engine, request):  # a mistake shows here, before anything is written
        sys.stdout.write(front + safe(piece.text))
        sys.stdout.flush()
        front, complete = "", piece.complete
    sys.stdout.write("\n")
    if not complete:
        _warn()


def _warn() -> None:
    sys.stdout.flush()
    sys.stderr.write(CUT)


def _batch(
    model_name: str,
    source: Path,
    out: Path,
    asked: dict[str, Any],
    *,
    adapter: Path | None,
    speculate: str | None,
    force: bool,
) -> int:
    from ownlm.opened.batch import generate_file
    from ownlm.opened.batch_file import check_places

    # What is wrong is told before the model is opened.
    check_places(source, out)
    _check(asked)
    model = model_to_ask(model_name, adapter=adapter, speculate=speculate)
    with BatchLine() as line:
        done = generate_file(model, source, out, asked=asked, force=force, progress=line)
    note = f", {done.errors} of them could not be answered and say why" if done.errors else ""
    before = f", {done.before} of them earlier" if done.before else ""
    sys.stderr.write(f"{done.total} lines in {out}{before}{note}\n")
    return 0


class BatchLine:
    """How far it is: a line that is written over on a terminal, and one in ten seconds elsewhere."""

    def __init__(self) -> None:
        from ownlm.cli.terminal import is_tty

        self.live = is_tty(sys.stderr)
        self._begun = self._shown = time.monotonic()

    def __call__(self, progress: "BatchProgress") -> None:
        now = time.monotonic()
        if now - self._shown < (0.2 if self.live else 10):
            return
        self._shown = now
        rate = progress.tokens / (now - self._begun)
        errors = f", {progress.errors} errors" if progress.errors else ""
        text = f"  {progress.done} of {progress.total} lines, {rate:.0f} tokens/s{errors}"
        sys.stderr.write(f"\r\x1b[K{text}" if self.live else f"{text}\n")
        sys.stderr.flush()

    def __enter__(self) -> "BatchLine":
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            sys.stderr.write("\r\x1b[K")
