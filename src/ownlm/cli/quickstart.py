"""`ownlm quickstart`: the whole journey, then the chat."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def quickstart(
    *,
    minutes: float | None = None,
    steps: int | None = None,
    text: str | None = None,
    chat_file: Annotated[Path | None, Parameter(name="--chat")] = None,
    out: Path = Path("runs/quickstart"),
    watch: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    base: str | None = None,
    depth: int | None = None,
    seed: int | None = None,
    recipe: Path | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", show_default=False)] = (),
    chat: Annotated[bool, Parameter(name="--open-chat", negative="--no-chat")] = True,
    show_recipe: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Make a language model of your own from text, then talk to it. The same command goes on after a stop.

    Example: ownlm quickstart --minutes 2

    Parameters
    ----------
    minutes
        How long all of it may take, about; model and steps follow from it (10 by default).
    steps
        Pretraining steps instead of minutes: fixed outright, and repeatable bit for bit.
    text
        A folder of your own documents (PDF, DOCX, EPUB, HTML, Markdown, text, .jsonl), or hub:NAME. Else: the Python
        that is installed.
    chat_file
        Your own conversations: a .jsonl file of {"messages": [...]} lines.
    out
        The folder for everything that is made.
    watch
        The start of a sentence that it continues now and then while it learns.
    base
        An open model to tune on the text instead of making one from nothing, such as smollm2.
    depth
        Layers of the model; else as many as the minutes can feed.
    seed
        Decides every random choice (0 by default).
    recipe
        A recipe file of your own; see --show-recipe.
    set_
        One value of the recipe, such as pretrain.rows=8.
    chat
        Whether a chat opens at the end; without a terminal none does.
    show_recipe
        Print the recipe that these options make, and end.
    """
    from ownlm.cli.open_model import fetch_if_starter
    from ownlm.errors import OwnlmError
    from ownlm.journey import QuickstartOptions
    from ownlm.journey import quickstart as make
    from ownlm.journey.recipe import resolve
    from ownlm.journey.stages import is_finished
    from ownlm.train import Stopped

    options = QuickstartOptions(
        base=base,
        recipe=recipe,
        minutes=minutes,
        steps=steps,
        seed=seed,
        text=text,
        chat=chat_file,
        depth=depth,
        watch=watch,
        set=set_,
    )
    if show_recipe:
        if base is not None:
            raise OwnlmError("--show-recipe beside --base: ownlm finetune your-documents --show-recipe prints it")
        from ownlm.artefact.recipe import to_yaml

        sys.stdout.write(to_yaml(resolve(options)))
        return 0
    from ownlm.cli.evaluate import EvaluationLine
    from ownlm.cli.narrate import TerminalNarrator

    if base is not None:
        fetch_if_starter(base)
    finished = is_finished(out)
    try:
        with EvaluationLine() as line:
            make(out, options, narrator=TerminalNarrator(out), progress=line)
    except Stopped:
        sys.stderr.write("\nownlm: stopped and saved; the same command goes on from here\n")
        return 130
    if finished:
        sys.stderr.write(f"{out} is finished; to begin anew beside it: ownlm quickstart --out {out}-2\n")
    if not chat or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return 0
    from ownlm.cli.chat import open_chat

    return open_chat(out)
