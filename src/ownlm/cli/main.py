"""`ownlm`: one verb a stage. Parses, calls one function, prints; a user's mistake is one line and exit 2."""

import io
import os
import sys
import traceback
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from ownlm import __version__
from ownlm.errors import OwnlmError

app = App(
    name="ownlm",
    help="Grow, run and own your language model. Begin with: ownlm quickstart",
    version=__version__,
    help_format="plaintext",
)
# Named, not imported: a command's module is loaded when it runs, and torch inside it.
app.command("ownlm.cli.quickstart:quickstart", name="quickstart", help="The whole journey, then a chat.")
corpus = App(name="corpus", help="Text into documents, tokens and conversations; look inside.")
corpus.command("ownlm.cli.corpus:build", name="build", help="Gather, clean, deduplicate and hold out text.")
corpus.command("ownlm.cli.corpus:show", name="show", help="What a corpus holds, and where it came from.")
corpus.command("ownlm.cli.corpus:tokenize", name="tokenize", help="Documents into token shards, which training reads.")
corpus.command("ownlm.cli.corpus:conversations", name="conversations", help="Conversations to tune on, and an exam.")
app.command(corpus)
tokenizer = App(name="tokenizer", help="Train a tokenizer, see how it cuts.")
tokenizer.command("ownlm.cli.tokenizer:train", name="train", help="Learn a vocabulary from a corpus.")
tokenizer.command("ownlm.cli.tokenizer:show", name="show", help="Vocabulary, and bytes per token by kind of text.")
tokenizer.command("ownlm.cli.tokenizer:encode", name="encode", help="Cut a text into tokens.")
app.command(tokenizer)
app.command("ownlm.cli.pretrain:pretrain", name="pretrain", help="Tokens into a base model, by a recipe.")
app.command("ownlm.cli.finetune:finetune", name="finetune", help="A base model into one that chats, by a recipe.")
app.command("ownlm.cli.generate:generate", name="generate", help="Continue a text.")
app.command("ownlm.cli.chat:chat", name="chat", help="A conversation in the terminal.")
app.command("ownlm.cli.report:report", name="report", help="Write a run's report.html anew.")
starter = App(name="starter", help="Small open models to begin with: fetch, list, remove.")
starter.command("ownlm.cli.starter:get", name="get", help="Fetch a starter, such as smollm2.")
starter.command("ownlm.cli.starter:list_", name="list", help="The starters there are, and which are here.")
starter.command("ownlm.cli.starter:remove", name="remove", help="Take a starter off this machine.")
app.command(starter)
app.command("ownlm.cli.doctor:doctor", name="doctor", help="What this machine can do, and what is missing.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 2 the user's mistake, 1 ours, 130 stopped by Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A console that has no such letter gets its number, never a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """The exit status of `ownlm ARGUMENTS`."""
    try:
        result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except CycloptsError as error:
        return _complain(f"{' '.join(str(error).split())} See ownlm {_command(arguments)}--help.")
    except OwnlmError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        return _complain("stopped; what was finished is kept, and the same command goes on", status=130)
    except BrokenPipeError:
        # The reader of a pipe has left: nothing to tell anyone, and nothing more to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError:
        return _complain("the memory is full; take a smaller model, fewer rows, or a machine with more")
    except Exception as error:
        if os.environ.get("OWNLM_DEBUG"):
            traceback.print_exc()
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return _complain(f"a fault of ours: {what}. Please report it; OWNLM_DEBUG=1 shows where it is.", status=1)


def _complain(message: str, status: int = 2) -> int:
    sys.stdout.flush()
    sys.stderr.write(f"ownlm: {message}\n")
    return status


def _command(arguments: Sequence[str]) -> str:
    known = [word for word in arguments[:1] if not word.startswith("-") and word in app]
    return f"{known[0]} " if known else ""
