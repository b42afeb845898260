"""`ownlm chat`: a conversation in the terminal, or one question of a script's."""

import os
import sys
from dataclasses import replace
from functools import cache, partial
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from ownlm.cli.chat_session import ChatOptions
from ownlm.cli.terminal import ColorChoice
from ownlm.errors import OwnlmError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ownlm.corpus import Match, TrainingText

SERVER = Group("A model of a server", sort_key=5)


def chat(
    model: str | None = None,
    *,
    url: Annotated[str | None, Parameter(group=SERVER)] = None,
    key: Annotated[str | None, Parameter(group=SERVER)] = None,
    prompt: Annotated[str | None, Parameter(name=["--prompt", "-p"])] = None,
    system: str | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    seed: int | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    color: ColorChoice = ChatOptions.color,
    show_probs: Annotated[bool, Parameter(negative="")] = False,
    adapter: Path | None = None,
    speculate: Literal["lookup"] | None = None,
    history: Path | None = None,
) -> int:
    """Talk to a model. Ctrl-C stops an answer, Ctrl-D leaves, /help lists what else there is.

    Example: ownlm chat smollm2
    One answer, alone on stdout: ownlm chat smollm2 -p "What is a list?"
    A text from a pipe: cat notes.txt | ownlm chat smollm2 -p - --system "Sum this up."
    A server's model: ownlm chat --url http://127.0.0.1:8000

    Parameters
    ----------
    model
        A model folder, a run's folder, a .gguf file, a starter (smollm2), or hub:ORG/NAME.
        With --url: the server's name for it; left out where it has one model.
    url
        Talk to a model of a server that speaks OpenAI's API: ours, llama.cpp's, vLLM's or another.
    key
        The server's key. Left out: OWNLM_API_KEY or OPENAI_API_KEY of the environment, where no other user sees it.
    prompt
        One question, answered on stdout; "-" reads it from stdin.
    system
        A first message that holds for the whole conversation.
    max_tokens
        Tokens of an answer at most. Left out: 200; with --url, as this and the next five, the server's own.
    temperature
        0 always takes the likeliest token; higher is bolder. Left out: what the model's makers suggest, else 0.3.
    top_k
        Choose among the k likeliest tokens; 0: among all. Left out: as suggested, else 0.
    top_p
        Choose among the likeliest tokens that together have this probability. Left out: as suggested, else 1.
    min_p
        Leave out what is less likely than this share of the likeliest. Left out: as suggested, else 0.05.
    repetition_penalty
        Above 1 makes tokens that were there less likely. Left out: as suggested, else 1.
    seed
        The same seed gives the same answer.
    json
        One JSON object a line on stdout.
    color
        When to use colours.
    show_probs
        Show how likely each token was.
    adapter
        A folder with a LoRA adapter in PEFT's form, used beside the model's weights.
    speculate
        Guess tokens ahead from the text itself, which changes no answer: faster where answers copy or quote.
    history
        A file that keeps your questions from one conversation to the next, for the Up key and Ctrl-R.
        Left out: the one that OWNLM_HISTORY of the environment names, else none.
    """
    given = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
    }
    options = ChatOptions(
        prompt=prompt,
        system=system,
        max_tokens=ChatOptions.max_tokens if max_tokens is None and url is None else max_tokens,
        seed=seed,
        json=json,
        color=color,
        show_probs=show_probs,
        history=_history_file(history),
    )
    sampling = {name: value for name, value in given.items() if value is not None}
    if url is not None:
        if adapter is not None or speculate is not None or show_probs:
            raise OwnlmError("--adapter, --speculate and --show-probs are for a model that runs here; leave out --url")
        from ownlm.cli.chat_remote import open_remote_chat

        return open_remote_chat(url, model, key, options, sampling)
    if key is not None:
        raise OwnlmError("--key is for a server; name it with --url")
    if model is None:
        raise OwnlmError("no model is named; write `ownlm chat smollm2`, or --url with a server's address")
    return open_chat(model, options, sampling, adapter=adapter, speculate=speculate)


def _history_file(path: Path | None) -> Path | None:
    """The file, made if need be: questions are for nobody else's eyes."""
    if path is None:
        if not (named := os.environ.get("OWNLM_HISTORY")):
            return None
        path = Path(named)
    try:
        path = path.expanduser()
        path.touch(mode=0o600)
        with path.open("ab"):
            return path
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise OwnlmError(f"cannot keep questions in {path}: {why}; name another file with --history") from error


def open_chat(
    model_name: str | Path,
    options: ChatOptions | None = None,
    sampling: "Mapping[str, float] | None" = None,
    *,
    adapter: Path | None = None,
    speculate: str | None = None,
) -> int:
    """Open the model and converse; a quickstart's model brings its material for /where.

    `sampling` is what the user wants; what it leaves open the model suggests.
    """
    from ownlm.artefact.card import CARD_NAME
    from ownlm.cli.chat_loop import run_chat
    from ownlm.cli.open_model import model_to_ask
    from ownlm.evaluation import check_answer
    from ownlm.model.locate import is_path
    from ownlm.model.starters import STARTERS

    model = model_to_ask(model_name, adapter=adapter, speculate=speculate)
    path, local = Path(model_name), is_path(str(model_name))
    tries = () if local or str(model_name) not in STARTERS else STARTERS[str(model_name)].tries
    # A folder that only has the name is the user's own texts.
    near = (path, path.parent) if local else ()
    passed = passed_questions(path) if local else ()
    material = next((folder for folder in near if (folder / "corpus" / CARD_NAME).is_file()), None)
    options = replace(
        options or ChatOptions(),
        **{**model.suggested_sampling, **(sampling or {})},  # type: ignore[arg-type]
        arithmetic=model.arithmetic,
        check_answer=check_answer,
        where=_finder(material) if material else None,
        load_model=partial(model_to_ask, speculate=speculate),
        suggestions=passed or tries,
        suggestions_are="It got these right in its exam:" if passed else ChatOptions.suggestions_are,
    )
    return run_chat(model, options=options, stdin=sys.stdin, stdout=sys.stdout, stderr=sys.stderr)


def _finder(material: Path) -> "Callable[[str], list[Match]]":
    """The search for /where; the text is read when it is first asked for."""

    @cache
    def training_text() -> "TrainingText":
        from ownlm.corpus import TrainingText

        conversations = material / "conversations"
        return TrainingText.open(material / "corpus", conversations if conversations.is_dir() else None)

    return lambda answer: training_text().longest_matches(answer)


def passed_questions(path: Path) -> tuple[str, ...]:
    """Questions that a quickstart's chat model got right in its exam, as its summary.json tells; none of another's."""
    from ownlm.model.locate import locate

    folder = locate(path)
    try:
        summary = loads((folder.parent / "summary.json").read_text(encoding="utf-8"))
        passed = summary["exam"]["passed"] if summary["paths"]["model"] == folder.name else []
        return tuple(str(item["question"]) for item in passed)
    except (OSError, ValueError, KeyError, TypeError):
        return ()  # no quickstart, one of an older version, or not at its end
